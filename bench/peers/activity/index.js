// The User Activity Service as its documents have it, on Express and KafkaJS. Beside the documents, what a careful owner
// would turn off is off: Express' ETag and X-Powered-By; requests are not logged. Each consumed event logs one line.
"use strict";
const { once } = require("node:events");
const { Kafka, Partitioners, logLevel } = require("kafkajs");
const { createApp } = require("./app");
const { EventStore, handleMessage } = require("./consume");

const {
  PORT = "3000",
  KAFKA_CLIENT_ID = "event-driven-user-activity-service",
  KAFKA_BROKERS = "localhost:9092",
  KAFKA_TOPIC = "user-activity-events",
  KAFKA_CONSUMER_GROUP = "user-activity-consumer-group",
  KAFKA_PRODUCER_RETRIES = "3",
  KAFKA_PRODUCER_RETRY_BACKOFF_MS = "500",
  KAFKA_CONNECTION_TIMEOUT_MS = "10000",
  KAFKA_REQUEST_TIMEOUT_MS = "30000",
} = process.env;

async function main() {
  const kafka = new Kafka({
    clientId: KAFKA_CLIENT_ID,
    brokers: KAFKA_BROKERS.split(","),
    connectionTimeout: Number(KAFKA_CONNECTION_TIMEOUT_MS),
    requestTimeout: Number(KAFKA_REQUEST_TIMEOUT_MS),
    logLevel: logLevel.WARN,
  });
  const producer = kafka.producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    retry: { retries: Number(KAFKA_PRODUCER_RETRIES), initialRetryTime: Number(KAFKA_PRODUCER_RETRY_BACKOFF_MS) },
  });
  const consumer = kafka.consumer({ groupId: KAFKA_CONSUMER_GROUP, sessionTimeout: 30000, heartbeatInterval: 3000 });
  const store = new EventStore();

  // the key keeps a user's events in one partition, in order
  const publish = (event) =>
    producer.send({
      topic: KAFKA_TOPIC,
      acks: -1,
      messages: [
        {
          key: event.userId,
          value: JSON.stringify(event),
          headers: { eventType: event.eventType, timestamp: event.timestamp },
        },
      ],
    });

  await Promise.all([producer.connect(), consumer.connect()]);
  await consumer.subscribe({ topics: [KAFKA_TOPIC], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => handleMessage(message, store) });

  const server = createApp({ publish, store }).listen(Number(PORT));
  await once(server, "listening");

  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.once(signal, async () => {
      server.close();
      server.closeIdleConnections();
      await Promise.all([consumer.disconnect(), producer.disconnect()]);
      process.exit(0);
    });
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
