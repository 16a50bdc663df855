import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fromBinary, fromJsonString, toBinary } from "@bufbuild/protobuf";
import { EventEnvelopeSchema } from "../gen/headwater/v1/envelope_pb.js";

// npm runs scripts in the folder of package.json
const golden = (name: string) => readFileSync(`../../proto/golden/${name}`, "utf8");

test("the pinned envelope's bytes and JSON are one event", () => {
  const wire = Uint8Array.from(Buffer.from(golden("envelope.hex").replace(/#.*|\s/g, ""), "hex"));
  const fromJson = fromJsonString(EventEnvelopeSchema, golden("envelope.json"));
  assert.deepEqual(fromBinary(EventEnvelopeSchema, wire), fromJson);
  assert.deepEqual(toBinary(EventEnvelopeSchema, fromJson), wire);
});
