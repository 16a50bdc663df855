// A Headwater client: a user's first minutes, and what the platform makes of them.
import { randomBytes, randomUUID } from "node:crypto";
import { env } from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema, ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { Analytics } from "../gen/headwater/v1/analytics_pb.js";
import { Fraud, RiskLevel } from "../gen/headwater/v1/fraud_pb.js";
import { type RecordActionRequestSchema, UserActions } from "../gen/headwater/v1/user_actions_pb.js";

const ACTIONS = 10;
/** Milliseconds that a call may take, and that the consumers may need. */
const DEADLINE = 10_000;

// every call of this program belongs to one trace
const trace = randomBytes(16).toString("hex");
const traced: Interceptor = (next) => (request) => {
  request.header.set("traceparent", `00-${trace}-${randomBytes(8).toString("hex")}-01`);
  return next(request);
};
const transport = createGrpcTransport({
  baseUrl: `http://${env.HEADWATER_ADDRESS ?? "localhost:8000"}`,
  defaultTimeoutMs: DEADLINE,
  interceptors: [traced],
});
const users = createClient(UserActions, transport);
const analytics = createClient(Analytics, transport);
const fraud = createClient(Fraud, transport);
console.log("trace      ", trace);

const account = { email: `${randomUUID()}@example.com`, password: "correct horse" };
const context = { ip: "198.51.100.7", userAgent: "headwater-typescript" };
// the event id makes the call safe to repeat: a second one is answered as the first and writes nothing
const { userId } = await users.registerUser({ ...account, context, eventId: randomUUID() });
console.log("registered ", userId);
const { sessionId } = await users.login({ ...account, context });
console.log("logged in  ", sessionId);

let accepted = 0;
for await (const answer of users.recordActions(failedLogins())) {
  // a bad item does not end the stream: its answer carries a status of its own
  if (answer.status) console.log(`item ${answer.index}: ${answer.status.message}`);
  else accepted += 1;
}
console.log(`recorded    ${accepted} of ${ACTIONS}`);

// the consumers follow the log: what was accepted is there in a moment
const day = new Date().toISOString().slice(0, 10);
const active = await until(async () => {
  const { activeUsers } = await analytics.getDailyActiveUsers({ day });
  return activeUsers > 0n ? activeUsers : undefined;
});
console.log(`active      ${active} on ${day}`);
const risk = await until(async () => {
  try {
    const profile = await fraud.getRiskProfile({ userId });
    return profile.score > 0 ? profile : undefined;
  } catch (error) {
    if (ConnectError.from(error).code === Code.NotFound) return undefined; // none of the events has arrived yet
    throw error;
  }
});
console.log(`risk        ${risk.score} ${RiskLevel[risk.level]} by ${risk.matches[0]?.rule}`);

const refused = await users.registerUser({ email: "not an address", password: "short" }).then(
  () => { throw new Error("a bad email was accepted"); },
  ConnectError.from,
);
console.log("refused    ", details(refused).join("\n  "));

/** What a backend has seen that authenticates its users itself. */
async function* failedLogins(): AsyncGenerator<MessageInitShape<typeof RecordActionRequestSchema>> {
  for (let i = 0; i < ACTIONS; i++) {
    yield { eventId: randomUUID(), eventType: "user.login_failed", userId, payload: { ip: "203.0.113.9" } };
  }
}

/** What an error of Headwater carries: the reason, and every bad field at once. */
function details(error: ConnectError): string[] {
  const reasons = error.findDetails(ErrorInfoSchema).map((info) => info.reason);
  const fields = error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations);
  return [...reasons, ...fields.map(({ field, description }) => `${field} ${description}`)];
}

async function until<T>(ask: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + DEADLINE;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > deadline) throw new Error(`not there after ${DEADLINE} ms`);
    await sleep(50);
  }
}
