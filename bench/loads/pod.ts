// Owns one pod without an Envoy: a real adapter in a process of its own, beside the built-in model server or a scripted one.
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { dyingWithParent } from "#cli/up/parentdeath.ts";
import { type SupervisedProcess, superviseProcess } from "#platform/process.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readyMs = 120_000;

export interface BenchAdapter {
  readonly pid: number;
  readonly linkAddress: string;
}

export async function openModelServer(folder: string, stack: AsyncDisposableStack): Promise<string> {
  const socket = join(folder, "server.sock");
  const ports = ["--rest-port", "0", "--grpc-port", "0", "--admin-socket", socket];
  await (await start("server", ["runtimes/onnx/main.ts", ...ports], stack)).ready;
  return socket;
}

export async function openBenchAdapter(folder: string, socket: string, stack: AsyncDisposableStack): Promise<BenchAdapter> {
  let linkPort = 0;
  const flags = {
    "pod-id": "bench",
    runtime: "onnx",
    "admin-socket": socket,
    registry: join(folder, "registry.db"),
    "rest-address": "127.0.0.1:1",
    "grpc-address": "127.0.0.1:2",
    "storage-root": folder,
    "capacity-bytes": 2 ** 40,
    "log-level": "error",
  };
  const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`]);
  const adapter = await start("adapter", ["adapters/main.ts", ...args], stack, (line) => {
    linkPort = Number(/"linkPort":(\d+)/.exec(line)?.[1] ?? linkPort);
  });
  await adapter.ready;
  return { pid: adapter.pid ?? 0, linkAddress: `127.0.0.1:${linkPort}` };
}

async function start(
  name: string,
  args: readonly string[],
  stack: AsyncDisposableStack,
  onOutput: (line: string) => void = () => undefined,
): Promise<SupervisedProcess> {
  return stack.use(
    superviseProcess({
      name,
      ...(await dyingWithParent({ command: process.execPath, args })),
      cwd: root,
      readyLine: /"ready":true/,
      readyTimeoutMs: readyMs,
      restart: { kind: "never" },
      onOutput,
    }),
  );
}

/** A model server that loads in no time and holds nothing: what is measured beside it is the adapter. */
export async function openScriptedServer(folder: string, sizeBytes: number, stack: AsyncDisposableStack): Promise<string> {
  const held = new Map<string, string>();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => void chunks.push(chunk));
    request.on("end", () => {
      const [, name = "", action] = /^\/v2\/repository\/models\/([^/]+)\/(load|unload)$/.exec(request.url ?? "") ?? [];
      if (action === "load") held.set(decodeURIComponent(name), "r1");
      if (action === "unload") held.delete(decodeURIComponent(name));
      const index = (): unknown => [...held].map(([each, revision]) => ({ name: each, revision, state: "READY", sizeBytes }));
      const answer = request.url === "/v2/repository/index" ? index() : { sizeBytes };
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
  });
  const socket = join(folder, "scripted.sock");
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject).listen(socket, resolve);
  await promise;
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return socket;
}
