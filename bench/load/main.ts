// Runs the load process: one plan after another from the benchmark that forked it, until that one lets go.
import { readFileSync } from "node:fs";
import { sleep, untilAborted } from "#platform/clock.ts";
import { runMain, StartupError } from "#platform/lifecycle.ts";
import { runGrpcLoad } from "./grpc.ts";
import { createMeter } from "./meter.ts";
import { type LoadPlan, type LoadReply, type LoadResult, planSchema, type RequestFile, requestFileSchema } from "./plan.ts";
import { runRestLoad } from "./rest.ts";

const lastAnswersMs = 10_000;

await runMain("load", async (signal) => {
  const file = process.argv[2];
  if (file === undefined || process.send === undefined) throw new StartupError("the load process is started by a benchmark only");
  const requests = requestFileSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  process.on("message", (message) => void answer(message, requests));
  await untilAborted(signal);
});

async function answer(message: unknown, requests: RequestFile): Promise<void> {
  let reply: LoadReply;
  try {
    reply = { kind: "done", result: await run(planSchema.parse(message), requests) };
  } catch (error) {
    reply = { kind: "broken", reason: error instanceof Error ? error.message : String(error) };
  }
  process.send?.(reply);
}

async function run(plan: LoadPlan, requests: RequestFile): Promise<LoadResult> {
  const list = requests[plan.requests];
  if (list === undefined || list.length === 0) throw new Error(`there are no requests called ${plan.requests}`);
  const meter = createMeter(plan.watchedPids, plan.stepMs);
  const stop = new AbortController();
  const load = plan.wire === "rest" ? runRestLoad : runGrpcLoad;
  const asking = load(plan, list, meter, stop.signal);
  await sleep(plan.settleMs);
  meter.open();
  await sleep(plan.measureMs);
  const result = meter.close();
  stop.abort();
  const late = AbortSignal.timeout(lastAnswersMs);
  await Promise.race([
    asking,
    untilAborted(late).then(() => {
      throw new Error(`clients still wait for an answer ${lastAnswersMs} ms after the end`);
    }),
  ]);
  return result;
}
