// A consumer of another make: reads the topic from its beginning in a group of its own until it has seen so many
// records of the key, and prints them as lines of JSON: {"partition", "offset", "headers", "value" in base64}.
//
//   kafkajs consume.cjs BROKERS TOPIC GROUP KEY COUNT
"use strict";
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require("kafkajs");
const { decompressFrame } = require("lz4-napi");

// KafkaJS knows gzip by itself; the batches of user.events are lz4.
CompressionCodecs[CompressionTypes.LZ4] = () => ({ decompress: decompressFrame });

const SECONDS = 60;
const [brokers, topic, groupId, key, count] = process.argv.slice(2);

async function main() {
  const kafka = new Kafka({ clientId: "peer", brokers: brokers.split(","), logLevel: logLevel.ERROR });
  const consumer = kafka.consumer({ groupId });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  let missing = Number(count);
  await new Promise((resolve, reject) => {
    const late = () => reject(new Error(`${missing} of ${count} records have not come in ${SECONDS} s`));
    const deadline = setTimeout(late, SECONDS * 1000);
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
    consumer.run({
      eachMessage: async ({ partition, message }) => {
        if (missing === 0 || message.key?.toString() !== key) return;
        const headers = Object.fromEntries(Object.entries(message.headers).map(([name, value]) => [name, value.toString()]));
        console.log(JSON.stringify({ partition, offset: message.offset, headers, value: message.value.toString("base64") }));
        if (--missing > 0) return;
        clearTimeout(deadline);
        resolve();
      },
    }).catch(reject);
  });
  await consumer.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
