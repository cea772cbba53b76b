// Owns where a model server listens. Requests go from Envoy straight to it, so it must listen on the pod's address; what
// the predecessor's runtimes say for a proxy inside the pod (loopback) is changed here for the servers that are known.
// Pure.
import { isRecord } from "#core/fields.ts";
import { list, text } from "../engine/objects.ts";
import { portOf, type Runtime, serverContainer, socketOf } from "./runtime.ts";

export interface Binding {
  readonly containers: readonly Readonly<Record<string, unknown>>[];
  /** Undefined: it speaks V2 over gRPC alone, which Envoy puts REST into. */
  readonly restPort: number | undefined;
  readonly grpcPort: number;
  /** Where the adapter manages the models of this server. */
  readonly adapterFlags: Readonly<Record<string, string | number>>;
  /** What was changed, for people. */
  readonly changes: readonly string[];
}

interface Server {
  readonly restPort: number | undefined;
  readonly grpcPort: number;
  readonly management: (runtime: Runtime, rest: number | undefined, grpc: number) => Readonly<Record<string, string | number>>;
  /** Environment that makes it listen on every address of the pod. */
  readonly env: Readonly<Record<string, string>>;
  /** Flags whose value is an address to listen on. */
  readonly addressFlags: readonly string[];
}

const anyAddress = "0.0.0.0";

const servers: Readonly<Record<string, Server>> = {
  onnx: {
    restPort: 8002,
    grpcPort: 8001,
    management: () => ({ "admin-socket": "/run/warmpath/onnx.sock" }),
    env: {},
    addressFlags: ["--host"],
  },
  mlserver: {
    restPort: 8002,
    grpcPort: 8001,
    management: () => ({ repository: "/models/_mlserver_models" }),
    env: { MLSERVER_HOST: anyAddress },
    addressFlags: [],
  },
  triton: {
    restPort: 8000,
    grpcPort: 8001,
    management: () => ({ repository: "/models/_triton_models" }),
    env: {},
    addressFlags: ["--http-address", "--grpc-address"],
  },
  ovms: {
    restPort: 8888,
    grpcPort: 8001,
    management: (runtime, rest) => ({
      "server-address": `127.0.0.1:${runtime.managementPort ?? rest}`,
      repository: "/models/_ovms_models",
    }),
    env: {},
    addressFlags: ["--rest_bind_address", "--grpc_bind_address"],
  },
  torchserve: {
    restPort: 8083,
    grpcPort: 7070,
    management: (runtime) => ({
      "server-address": `127.0.0.1:${runtime.managementPort ?? 7071}`,
      repository: "/models/_torchserve_models",
    }),
    env: {},
    addressFlags: [],
  },
};

const custom: Server = {
  restPort: undefined,
  grpcPort: 8001,
  management: (runtime, _rest, grpc) => {
    const socket = socketOf(runtime.grpcEndpoint);
    const address = socket === undefined ? `127.0.0.1:${portOf(runtime.grpcEndpoint) ?? grpc}` : `unix:${socket.path}`;
    return { "server-address": address, records: "/models/.copies" };
  },
  env: {},
  addressFlags: [],
};

export function bindServer(runtime: Runtime): Binding {
  const server = servers[runtime.serverType] ?? custom;
  const container = serverContainer(runtime);
  const grpcPort =
    portOf(runtime.grpcDataEndpoint) ??
    (runtime.serverType === "custom" ? portOf(runtime.grpcEndpoint) : undefined) ??
    server.grpcPort;
  const restPort = portOf(runtime.httpDataEndpoint) ?? server.restPort;
  const changes: string[] = [];
  const containers = runtime.containers.map((each) => (each === container ? rebind(each, server, changes) : each));
  return { containers, restPort, grpcPort, adapterFlags: server.management(runtime, restPort, grpcPort), changes };
}

function rebind(
  container: Readonly<Record<string, unknown>>,
  server: Server,
  changes: string[],
): Readonly<Record<string, unknown>> {
  const env = list(container["env"]).filter(isRecord);
  const own = new Map(env.map((each) => [each["name"], each["value"]]));
  const set = Object.entries(server.env).filter(([name, value]) => own.get(name) !== value);
  for (const [name, value] of set) {
    if (own.has(name)) changes.push(`${name} is ${value} instead of ${text(own.get(name)) ?? JSON.stringify(own.get(name))}`);
  }
  const kept = env.filter(({ name }) => !set.some(([changed]) => changed === name));
  const given = list(container["args"]);
  const args = given.map((arg, at) => rebindArg(arg, given[at - 1], server, changes));
  return {
    ...container,
    ...(args.length === 0 ? {} : { args }),
    ...(kept.length + set.length === 0 ? {} : { env: [...kept, ...set.map(([name, value]) => ({ name, value }))] }),
  };
}

const loopback = /^(?:127\.0\.0\.1|localhost|::1)$/;

/** `--rest_bind_address=127.0.0.1`, the same in two arguments, or inside a script that a shell runs. */
function rebindArg(arg: unknown, before: unknown, server: Server, changes: string[]): unknown {
  if (typeof arg !== "string") return arg;
  const follows = typeof before === "string" && server.addressFlags.includes(before) && loopback.test(arg);
  let changed = follows ? anyAddress : arg;
  for (const flag of server.addressFlags) {
    changed = changed.replaceAll(new RegExp(`(${flag}[= ])(?:127\\.0\\.0\\.1|localhost)\\b`, "g"), `$1${anyAddress}`);
  }
  const note = `the model server listens on ${anyAddress} instead of loopback`;
  if (changed !== arg && !changes.includes(note)) changes.push(note);
  return changed;
}
