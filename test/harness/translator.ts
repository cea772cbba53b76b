// Owns an Envoy with nothing but the cluster that puts REST into gRPC, and behind it a server over HTTP/2 that a test scripts: what
// the message is that comes, byte for byte, and whatever bytes go back.
import {
  constants,
  createServer,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { writeFile } from "node:fs/promises";
import { findFreePorts } from "#cli/up/ports.ts";
import { envoyArguments } from "#envoy/arguments.ts";
import { connection, router } from "#envoy/filters.ts";
import { httpErrors } from "#envoy/localreplies.ts";
import { packAny } from "#platform/any.ts";
import { superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { BootstrapSchema } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import { InternalListenerSchema } from "#proto/gen/envoy/extensions/bootstrap/internal_listener/v3/internal_listener_pb.ts";
import { HttpConnectionManagerSchema } from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { buildSetCluster } from "#xds/resources/cluster.ts";
import { buildSet } from "#xds/resources/set.ts";
import { frameOf } from "./grpc.ts";
import { createRestClient, type RestClient } from "./http.ts";
import { findEnvoy } from "./setup.ts";
import { waitUntil } from "./wait.ts";

export interface GrpcCall {
  readonly headers: IncomingHttpHeaders;
  /** The frame and what it holds. */
  readonly body: Buffer;
  readonly trailers: IncomingHttpHeaders;
}

export interface GrpcReply {
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Uint8Array;
  /** Status 0 when absent. */
  readonly trailers?: OutgoingHttpHeaders;
  /** The stream is reset where the body has ended. */
  readonly isReset?: boolean;
  /** Said before, such as 100 and 103. */
  readonly informs?: number;
  /** The body comes in pieces of so many bytes. */
  readonly pieces?: number;
}

export interface Translator extends AsyncDisposable {
  readonly url: string;
  readonly client: RestClient;
  /** The calls that came, since somebody emptied it. */
  readonly calls: GrpcCall[];
  /** One that answers with this, or with what this makes of the call. */
  reply(with_: GrpcReply | ((call: GrpcCall) => GrpcReply)): void;
  /** One that answers with this message. */
  replyMessage(message: Uint8Array): void;
  /** What Envoy printed. */
  printed(): string;
}

export const maxMessageBytes = 4 << 20;
const host = "127.0.0.1";

async function answer(stream: ServerHttp2Stream, reply: GrpcReply): Promise<void> {
  const { trailers = { "grpc-status": "0" }, body = Buffer.of(), pieces = body.length } = reply;
  if (reply.informs !== undefined) stream.additionalHeaders({ ":status": reply.informs });
  stream.respond({ ":status": 200, "content-type": "application/grpc", ...reply.headers }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  for (let at = 0; at < body.length && !stream.destroyed; at += pieces) {
    await new Promise((resolve) => void stream.write(body.subarray(at, at + pieces), resolve));
  }
  if (reply.isReset === true) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else if (!stream.destroyed) stream.end();
}

export async function openTranslator(): Promise<Translator> {
  const stack = new AsyncDisposableStack();
  const calls: GrpcCall[] = [];
  let next: (call: GrpcCall) => GrpcReply = () => ({});
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer({ maxSessionMemory: 1_000, settings: { initialWindowSize: 16 << 20 } });
  server.on("session", (session) => void sessions.add(session));
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    const chunks: Buffer[] = [];
    let trailers: IncomingHttpHeaders = {};
    stream.on("trailers", (came: IncomingHttpHeaders) => (trailers = came));
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", () => undefined);
    stream.on("end", () => {
      const call = { headers, body: Buffer.concat(chunks), trailers };
      calls.push(call);
      void answer(stream, next(call));
    });
  });
  const [port = 0, grpcPort = 0] = await findFreePorts(host, 2);
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(grpcPort, host, resolve));
  stack.defer(async () => {
    for (const session of sessions) session.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  const at = { host, port: grpcPort };
  const set = buildSet([{ podId: "p", rest: at, grpc: at, restByGrpc: true }]);
  const cluster = buildSetCluster(set, "rest");
  const manager = packAny(HttpConnectionManagerSchema, {
    ...connection("test", { maxMessageBytes, maxParkMs: 60_000 } as Parameters<typeof connection>[1]),
    localReplyConfig: httpErrors,
    routeSpecifier: {
      case: "routeConfig",
      value: {
        virtualHosts: [
          {
            name: "all",
            domains: ["*"],
            routes: [
              {
                match: { pathSpecifier: { case: "prefix", value: "/" } },
                action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: cluster.name } } },
              },
            ],
          },
        ],
      },
    },
    httpFilters: [router],
  });
  const bootstrap = create(BootstrapSchema, {
    bootstrapExtensions: [{ name: "envoy.bootstrap.internal_listener", typedConfig: packAny(InternalListenerSchema, {}) }],
    staticResources: {
      clusters: [cluster],
      listeners: [
        {
          name: "test",
          address: {
            address: { case: "socketAddress", value: { address: host, portSpecifier: { case: "portValue", value: port } } },
          },
          perConnectionBufferLimitBytes: maxMessageBytes + 64 * 1024,
          filterChains: [{ filters: [{ name: "http", configType: { case: "typedConfig", value: manager } }] }],
        },
      ],
    },
  });
  const folder = stack.use(await openRunFolder());
  const file = join(folder.path, "envoy.pb");
  await writeFile(file, toBinary(BootstrapSchema, bootstrap));
  const printed: string[] = [];
  const envoy = superviseProcess({
    name: "envoy",
    command: await findEnvoy(),
    args: envoyArguments(file, 1),
    restart: { kind: "never" },
    onOutput: (line) => void printed.push(line),
    onExit: (e) => void printed.push(`EXIT ${JSON.stringify(e)}`),
  });
  stack.defer(() => envoy.stop());
  const url = `http://${host}:${port}`;
  const client = stack.use(createRestClient(url));
  await waitUntil(
    "Envoy serves",
    async () =>
      await client.ask("/v1/models/x").then(
        ({ status }) => status,
        () => 0,
      ),
    (status) => status === 501,
  );
  return {
    url,
    client,
    calls,
    reply: (given) => {
      next = typeof given === "function" ? given : () => given;
    },
    replyMessage: (message) => {
      next = () => ({ body: frameOf(message) });
    },
    printed: () => printed.join("\n"),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
