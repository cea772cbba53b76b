// Owns the load process as a benchmark sees it: forked, told what to do, ended. It lives in a process of its own so that
// neither shares an event loop with the other.
import { forkChild, type NodeOn, nodeAnywhere } from "../children.ts";
import { type LoadPlan, type LoadResult, replySchema } from "./plan.ts";

export interface LoadProcess extends AsyncDisposable {
  /** One at a time. Rejects when the load process cannot do it, and with the signal's reason when that comes first. */
  run(plan: LoadPlan, signal: AbortSignal): Promise<LoadResult>;
}

const entry = new URL("main.ts", import.meta.url);
const graceMs = 20_000;

/** `requestFile`: JSON as load/plan.ts has it. */
export function openLoadProcess(requestFile: string, on: NodeOn = nodeAnywhere): LoadProcess {
  const child = forkChild(entry, [requestFile], on);
  const exited = Promise.withResolvers<void>();
  child.once("exit", () => exited.resolve());
  child.once("error", () => exited.resolve());
  let pending: PromiseWithResolvers<LoadResult> | undefined;
  child.on("message", (message) => {
    const reply = replySchema.parse(message);
    if (reply.kind === "done") pending?.resolve(reply.result);
    else pending?.reject(new Error(`load: ${reply.reason}`));
  });
  void exited.promise.then(() => pending?.reject(new Error("the load process ended")));
  return {
    async run(plan, signal) {
      signal.throwIfAborted();
      pending = Promise.withResolvers<LoadResult>();
      const onAbort = (): void => pending?.reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      child.send(plan);
      const late = setTimeout(
        () => pending?.reject(new Error("the load process does not answer")),
        plan.settleMs + plan.measureMs + graceMs,
      );
      try {
        return await pending.promise;
      } finally {
        clearTimeout(late);
        signal.removeEventListener("abort", onAbort);
      }
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited.promise;
    },
  };
}
