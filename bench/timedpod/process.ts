// Owns the process of a timed pod as a benchmark sees it: forked, asked how much it has loaded, ended.
import { once } from "node:events";
import { forkChild, type NodeOn } from "../children.ts";
import { replySchema, type TimedPodPlan, type TimedPodReply } from "./plan.ts";

export interface TimedPodProcess extends AsyncDisposable {
  /** So far. */
  loads(): Promise<number>;
}

const entry = new URL("main.ts", import.meta.url);

/** Resolves when it is announced. */
export async function openTimedPodProcess(plan: TimedPodPlan, on: NodeOn): Promise<TimedPodProcess> {
  const child = forkChild(entry, [JSON.stringify(plan)], on);
  const ended = new AbortController();
  const exited = once(child, "exit").then(() => ended.abort(new Error("the timed pod's process ended")));
  const hear = async (): Promise<TimedPodReply> => {
    const [message] = await once(child, "message", { signal: ended.signal });
    return replySchema.parse(message);
  };
  await hear();
  return {
    async loads() {
      const heard = hear();
      child.send("loads");
      const reply = await heard;
      return reply.kind === "loads" ? reply.loads : 0;
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
