// Owns what stands for the model servers of fake pods: a process of its own, as a model server is, so that what it answers
// does not wait for what the benchmark does meanwhile.
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { z } from "zod";

export interface Upstream extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
}

const host = "127.0.0.1";
const entry = fileURLToPath(new URL("upstream/main.ts", import.meta.url));
const started = z.object({ port: z.int() });

export async function openUpstream(): Promise<Upstream> {
  const child = fork(entry, [host], { stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [] });
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
