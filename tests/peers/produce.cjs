// A producer of another make, with KafkaJS's own choice of partition: writes what comes in as lines of JSON,
// {"key", "value", "headers"}, to the topic, and ends when the broker has all of it.
//
//   kafkajs produce.cjs BROKERS TOPIC <records.jsonl
"use strict";
const { createInterface } = require("node:readline");
const { Kafka, Partitioners, logLevel } = require("kafkajs");

const [brokers, topic] = process.argv.slice(2);

async function main() {
  const messages = [];
  for await (const line of createInterface({ input: process.stdin })) messages.push(JSON.parse(line));
  const kafka = new Kafka({ clientId: "peer", brokers: brokers.split(","), logLevel: logLevel.ERROR });
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  await producer.send({ topic, acks: -1, messages });
  await producer.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
