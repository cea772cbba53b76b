// Owns the process of the built-in model server: flags, signals, the line that tells it is ready.

import { untilAborted } from "#platform/clock.ts";
import { exitWithParent, runMain } from "#platform/lifecycle.ts";
import { createLog } from "#platform/log.ts";
import { parseServerFlags } from "./flags.ts";
import { openModelServer } from "./server.ts";

await runMain("onnx", async (signal, stack) => {
  const { exitWithParent: withParent, ...flags } = parseServerFlags(process.argv.slice(2));
  const orphaned = new AbortController();
  if (withParent) exitWithParent(() => orphaned.abort());
  const log = stack.use(createLog({ service: "onnx" }));
  const server = stack.use(await openModelServer({ ...flags, log }));
  process.stdout.write(`${JSON.stringify({ ready: true, restPort: server.restPort, grpcPort: server.grpcPort })}\n`);
  await untilAborted(AbortSignal.any([signal, orphaned.signal]));
});
