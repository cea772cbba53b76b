// Owns what stands for the model servers of fake pods: a process of its own, as a model server is, so that what it answers
// does not wait for what the benchmark does meanwhile.
import { z } from "zod";
import { forkChild, type NodeOn } from "./children.ts";

export interface Upstream extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
}

const host = "127.0.0.1";
const entry = new URL("upstream/main.ts", import.meta.url);
const started = z.object({ port: z.int() });

export async function openUpstream(on: NodeOn): Promise<Upstream> {
  const child = forkChild(entry, [host], on);
  const exited = Promise.withResolvers<void>();
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once("exit", () => {
    exited.resolve();
    reject(new Error("the upstream ended"));
  });
  child.once("message", (message) => resolve(started.parse(message).port));
  const port = await promise;
  return {
    host,
    port,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited.promise;
    },
  };
}
