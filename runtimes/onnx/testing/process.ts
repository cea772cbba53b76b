// Owns a model server in a process of its own, for tests and measurements: started on free ports, stopped with its caller.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Agent, type Dispatcher } from "undici";

export interface AdminAnswer {
  readonly status: number;
  readonly body: unknown;
}

export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
  readonly restPort: number;
  readonly grpcPort: number;
  readonly folder: string;
  readonly adminSocket: string;
  admin(method: "GET" | "POST", path: string, body?: unknown): Promise<AdminAnswer>;
  /** Sends the signal, or closes its standard input; resolves to the exit code. */
  stop(how: NodeJS.Signals | "close stdin"): Promise<number | null>;
}

/** Starts `main.ts` with further flags; rejects with what it printed when it does not become ready. */
export async function openServerProcess(flags: readonly string[] = []): Promise<ServerProcess> {
  const folder = await mkdtemp(join(tmpdir(), "warm-onnx-"));
  const adminSocket = join(folder, "admin.sock");
  const main = fileURLToPath(new URL("../main.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    [main, "--rest-port", "0", "--grpc-port", "0", "--admin-socket", adminSocket, "--exit-with-parent", ...flags],
    { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, MALLOC_TRIM_THRESHOLD_: "131072" } },
  );
  let printed = "";
  child.stderr.on("data", (chunk: Buffer) => (printed += chunk.toString()));
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  const ready = new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).once("line", resolve);
    void exited.then((code) => reject(new Error(`the server exited with ${code}: ${printed}`)));
  });
  let ports: { restPort: number; grpcPort: number };
  try {
    ports = JSON.parse(await ready);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  const agent: Dispatcher = new Agent({ connect: { socketPath: adminSocket }, headersTimeout: 60_000 });
  const stop = async (how: NodeJS.Signals | "close stdin"): Promise<number | null> => {
    if (how === "close stdin") child.stdin.end();
    else child.kill(how);
    return await exited;
  };
  return {
    ...ports,
    pid: child.pid ?? 0,
    folder,
    adminSocket,
    stop,
    async admin(method, path, body): Promise<AdminAnswer> {
      const answer = await agent.request({
        origin: "http://localhost",
        method,
        path,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: answer.statusCode, body: await answer.body.json() };
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await agent.destroy();
      if (child.exitCode === null) await stop("SIGKILL");
      await rm(folder, { recursive: true, force: true });
    },
  };
}
