// A gateway that lingers after SIGTERM: its Envoy answers on, and each answer sends its client elsewhere in order; the gateway
// that comes after it ends that.
import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Agent, request } from "undici";
import { writeEnvoyFiles } from "#cli/services/bootstrap.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import { nodeProgram } from "#cli/up/processes.ts";
import { envoyArguments } from "#envoy/arguments.ts";
import { defaultLimits } from "#envoy/limits.ts";
import { type ProcessExit, type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { findEnvoy } from "../harness/setup.ts";
import { waitUntil } from "../harness/wait.ts";

const loopback = "127.0.0.1";
const patienceMs = 120_000;
const stack = new AsyncDisposableStack();
let folder: string;
let envoy: SupervisedProcess;
let http: number;
let grpc: number;
let admin: number;

before(async () => {
  folder = stack.use(await openRunFolder()).path;
  [http = 0, grpc = 0, admin = 0] = await findFreePorts(loopback, 3);
  const bootstrap = await writeEnvoyFiles(folder, {
    nodeId: "envoy-0",
    maxMessageBytes: 2 ** 20,
    maxParkMs: 10_000,
    limits: defaultLimits,
    auth: undefined,
    adminSocket: join(folder, "envoy.sock"),
    gatewaySocket: join(folder, "gateway.sock"),
    http: { host: loopback, port: http },
    grpc: { host: loopback, port: grpc },
    tracing: undefined,
    tls: undefined,
  });
  envoy = stack.use(
    superviseProcess({
      name: "envoy",
      command: await findEnvoy(),
      args: envoyArguments(bootstrap, 1),
      restart: { kind: "never" },
      readyProbe: async () => (await answerOf(http).catch(() => undefined)) !== undefined,
      readyTimeoutMs: patienceMs,
    }),
  );
});
after(() => stack.disposeAsync());

interface RunningGateway extends AsyncDisposable {
  readonly process: SupervisedProcess;
  readonly exit: () => ProcessExit | undefined;
}

/** Its Envoy has found it. */
async function startGateway(linger: string): Promise<RunningGateway> {
  let exit: ProcessExit | undefined;
  const flags = {
    "gateway-id": "gateway-0",
    socket: join(folder, "gateway.sock"),
    "envoy-admin": join(folder, "envoy.sock"),
    registry: join(folder, "registry.db"),
    "admin-port": admin,
    linger,
    drain: "1m",
  };
  await using starting = new AsyncDisposableStack();
  const gateway = superviseProcess({
    name: "gateway",
    ...nodeProgram("gateway/main.ts", flags),
    restart: { kind: "never" },
    readyLine: /^\{"ready":true/,
    readyTimeoutMs: patienceMs,
    onExit: (seen) => (exit = seen),
  });
  starting.use(gateway);
  await gateway.ready;
  const readiness = async (): Promise<number> => {
    const { statusCode, body } = await request(`http://${loopback}:${admin}/readyz`);
    await body.dump();
    return statusCode;
  };
  await waitUntil("the gateway is ready", readiness, (code) => code === 200, patienceMs);
  const parts = starting.move();
  return { process: gateway, exit: () => exit, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

/** What a client that keeps its connection hears of a model that is not there. */
async function answerOf(port: number): Promise<{ readonly status: number; readonly connection: string }> {
  const agent = new Agent({ connections: 1, pipelining: 1 });
  try {
    const { statusCode, headers, body } = await request(`http://${loopback}:${port}/v2/models/nobody/ready`, {
      dispatcher: agent,
    });
    await body.dump();
    return { status: statusCode, connection: String(headers["connection"] ?? "kept") };
  } finally {
    await agent.destroy();
  }
}

async function openSession(): Promise<{ readonly session: ClientHttp2Session; readonly toldToGo: () => boolean }> {
  const session = connect(`http://${loopback}:${grpc}`);
  let told = false;
  session.on("goaway", () => (told = true));
  session.on("error", () => undefined);
  await once(session, "connect");
  return { session, toldToGo: () => told };
}

/** Its trailers or its headers say how it ended. */
async function call(session: ClientHttp2Session): Promise<string> {
  const stream = session.request({
    ":method": "POST",
    ":path": "/inference.GRPCInferenceService/ServerLive",
    "content-type": "application/grpc",
    te: "trailers",
  });
  let said = "";
  const note = ({ "grpc-status": told }: IncomingHttpHeaders): void => {
    if (typeof told === "string") said = told;
  };
  stream.on("response", note);
  stream.on("trailers", note);
  stream.on("error", () => undefined);
  stream.resume();
  stream.end(Buffer.alloc(5));
  await once(stream, "close");
  return said;
}

const kept = { status: 404, connection: "kept" };

test("connections are kept while the gateway works, and end with an answer each once it was told to end", async () => {
  await using gateway = await startGateway("1h");
  await envoy.ready;
  await waitUntil(
    "a request is answered, and its connection kept",
    () => answerOf(http),
    ({ connection, status }) => connection === kept.connection && status === kept.status,
    patienceMs,
  );
  const { session, toldToGo } = await openSession();
  assert.equal(await call(session), "0");
  assert.equal(toldToGo(), false);

  process.kill(gateway.process.pid ?? 0, "SIGTERM");
  await waitUntil(
    "an answer ends its connection",
    () => answerOf(http),
    ({ connection }) => connection === "close",
    patienceMs,
  );
  assert.equal((await answerOf(http)).status, 404);
  // In order: what was asked is answered, and the client is told to ask elsewhere.
  assert.equal(await call(session), "0");
  await waitUntil("the session is told to go", toldToGo, Boolean, patienceMs);
  await using later = await openSession().then((opened) => ({
    ...opened,
    [Symbol.asyncDispose]: async () => opened.session.destroy(),
  }));
  assert.equal(await call(later.session), "0");
  session.destroy();
});

test("the gateway that comes after it keeps connections again", async () => {
  await using gateway = await startGateway("1h");
  await waitUntil(
    "a connection is kept",
    () => answerOf(http),
    ({ connection }) => connection === kept.connection,
    patienceMs,
  );
  assert.equal(gateway.exit(), undefined);
});

test("a gateway that lingers ends once its Envoy has", async () => {
  await using gateway = await startGateway("1s");
  process.kill(gateway.process.pid ?? 0, "SIGTERM");
  const overMs = performance.now() + 3_000;
  await waitUntil(
    "the time to linger is over",
    () => performance.now(),
    (now) => now > overMs,
    patienceMs,
  );
  assert.equal(gateway.exit(), undefined);
  assert.deepEqual(await answerOf(http), { status: 404, connection: "close" });
  await envoy[Symbol.asyncDispose]();
  await waitUntil("the gateway has ended", gateway.exit, (exit) => exit !== undefined, patienceMs);
  assert.equal(gateway.exit()?.code, 0);
});
