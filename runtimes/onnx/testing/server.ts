// Owns a model server inside the test's own process, with real HTTP and gRPC clients to it.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent } from "undici";
import { createClient, type ServiceClient } from "#platform/grpc.ts";
import { silentLog } from "#platform/log.ts";
import { GRPCInferenceService } from "#proto/gen/inference/open_inference_pb.ts";
import { type ModelServerOptions, openModelServer } from "../server.ts";

export interface Ask {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE" | "HEAD";
  readonly headers?: Readonly<Record<string, string>>;
  /** An object is sent as JSON. */
  readonly body?: string | Uint8Array | object;
}

export interface Told {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly bytes: Buffer;
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown;
}

export type ThreadOptions = Partial<Pick<ModelServerOptions, "threads" | "maxWaiting" | "log">>;

export interface TestServer extends AsyncDisposable {
  readonly folder: string;
  readonly restPort: number;
  readonly grpcPort: number;
  readonly grpc: ServiceClient<typeof GRPCInferenceService>;
  rest(path: string, ask?: Ask): Promise<Told>;
  admin(path: string, ask?: Ask): Promise<Told>;
  /** Writes the model to a new file and returns its path. */
  write(model: Uint8Array): Promise<string>;
  /** Loads the model and asserts that it was loaded. */
  load(name: string, model: Uint8Array, parameters?: object): Promise<void>;
}

export async function openTestServer(maxBodyBytes = 1024 * 1024, options: ThreadOptions = {}): Promise<TestServer> {
  await using opening = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "warm-onnx-"));
  opening.defer(async () => rm(folder, { recursive: true, force: true }));
  const adminSocket = join(folder, "admin.sock");
  const server = opening.use(
    await openModelServer({
      host: "127.0.0.1",
      restPort: 0,
      grpcPort: 0,
      adminSocket,
      maxBodyBytes,
      threads: 2,
      maxWaiting: 1_000,
      log: silentLog,
      graceMs: 1_000,
      ...options,
    }),
  );
  const rest = new Agent();
  const admin = new Agent({ connect: { socketPath: adminSocket } });
  opening.defer(async () => {
    await rest.destroy();
    await admin.destroy();
  });
  const grpc = opening.use(createClient(GRPCInferenceService, `127.0.0.1:${server.grpcPort}`));
  let files = 0;
  const write = async (model: Uint8Array): Promise<string> => {
    const path = join(folder, `${files++}.onnx`);
    await writeFile(path, model);
    return path;
  };
  const askAdmin = async (path: string, ask?: Ask): Promise<Told> =>
    send(admin, "http://localhost", path, { method: "POST", ...ask });
  const opened = opening.move();
  return {
    ...server,
    folder,
    grpc,
    write,
    rest: async (path, ask) => send(rest, `http://127.0.0.1:${server.restPort}`, path, ask),
    admin: askAdmin,
    async load(name, model, parameters = {}): Promise<void> {
      const path = await write(model);
      const answer = await askAdmin(`/v2/repository/models/${encodeURIComponent(name)}/load`, {
        body: { parameters: { path, ...parameters } },
      });
      if (answer.status !== 200) throw new Error(`loading ${name}: ${answer.status} ${answer.bytes.toString()}`);
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

async function send(agent: Agent, origin: string, path: string, ask: Ask = {}): Promise<Told> {
  const { body, headers = {}, method = body === undefined ? "GET" : "POST" } = ask;
  const bytes = body === undefined || typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
  const answer = await agent.request({ origin, path, method, headers, ...(bytes === undefined ? {} : { body: bytes }) });
  const received = Buffer.from(await answer.body.arrayBuffer());
  return { status: answer.statusCode, headers: answer.headers, bytes: received, json: parse(received) };
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}
