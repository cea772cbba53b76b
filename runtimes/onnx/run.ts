// Owns the built-in model server's process from its options to its end: the public entry for whoever runs one.
import { availableParallelism } from "node:os";
import { untilAborted } from "#platform/clock.ts";
import { describeFlags } from "#platform/config.ts";
import { exitWithParent } from "#platform/lifecycle.ts";
import { createLog } from "#platform/log.ts";
import { parseServerFlags, serverFlags } from "./flags.ts";
import { openModelServer } from "./server.ts";

/** At least two, so that one model that computes all the time is not in the way of all others; each takes some 10 MB. */
function defaultThreads(): number {
  return Math.min(4, Math.max(2, availableParallelism()));
}

/** Runs until the signal is aborted. */
export async function runOnnx(argv: readonly string[], signal: AbortSignal, stack: AsyncDisposableStack): Promise<void> {
  const { exitWithParent: withParent, threads = defaultThreads(), ...flags } = parseServerFlags(argv);
  const orphaned = new AbortController();
  if (withParent) exitWithParent(() => orphaned.abort());
  const log = stack.use(createLog({ service: "onnx" }));
  const server = stack.use(await openModelServer({ ...flags, threads, log }));
  // An exit would wait for a run that may not end, and then abort (session.ts).
  process.once("exit", () => {
    if (server.isComputing()) process.kill(process.pid, "SIGKILL");
  });
  process.stdout.write(`${JSON.stringify({ ready: true, restPort: server.restPort, grpcPort: server.grpcPort })}\n`);
  await untilAborted(AbortSignal.any([signal, orphaned.signal]));
}

/** The options, for help. */
export function describeOnnx(): string {
  return describeFlags(serverFlags);
}
