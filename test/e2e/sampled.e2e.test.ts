// Of much traffic Envoy tells the gateway a part only, and what that part stands for is what there was.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;

before(async () => {
  fleet = await openFleet({ pods: 1 });
  await fleet.whenServing();
});
after(() => fleet?.[Symbol.asyncDispose]());

async function logged(): Promise<number> {
  const stats = await fleet.envoyStats("access_logs.grpc_access_log.logs_written");
  return stats.values().reduce((sum, value) => sum + value, 0);
}

test("entries are a part of the requests once there are many", { timeout: 200_000 }, async (context) => {
  const models = fleet.oracle.models.slice(0, 8);
  for (const model of models) await fleet.asker.ask(model, "rest");
  const over = new AbortController();
  let answered = 0;
  const driving = Array.from({ length: 48 }, async (_, at) => {
    for (let turn = at; !over.signal.aborted; turn++) {
      await fleet.asker.ask(models[turn % models.length] ?? assert.fail(), "rest");
      answered += 1;
    }
  });
  try {
    let mark = { answered, logs: await logged() };
    await waitUntil(
      "of a thousand requests fewer than two thirds are told",
      async () => {
        if (answered - mark.answered < 1_000) return undefined;
        const was = mark;
        mark = { answered, logs: await logged() };
        context.diagnostic(`${mark.logs - was.logs} of ${mark.answered - was.answered}`);
        return (mark.logs - was.logs) / (mark.answered - was.answered);
      },
      (share) => share !== undefined && share < 2 / 3,
      120_000,
    );
  } finally {
    over.abort();
    await Promise.all(driving);
  }
});
