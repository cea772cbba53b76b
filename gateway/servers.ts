// Owns the two gRPC servers of a gateway: towards its Envoy on a unix socket (xDS, ext_proc, access logs, calls about the
// server), and towards other gateways.
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { type handleClientStreamingCall, Server } from "@grpc/grpc-js";
import { addService, allowResets, bindServer, closeServer, type ServiceHandlers } from "#platform/grpc.ts";
import type { Identity } from "#platform/tls/identity.ts";
import { AccessLogService, type StreamAccessLogsResponse } from "#proto/gen/envoy/service/accesslog/v3/als_pb.ts";
import { ExternalProcessor } from "#proto/gen/envoy/service/ext_proc/v3/external_processor_pb.ts";
import { GRPCInferenceService } from "#proto/gen/inference/open_inference_pb.ts";
import { Peer } from "#proto/gen/warmpath/peer/v1/peer_pb.ts";
import type { Xds } from "#xds/main.ts";
import { decodeAccessLogs, type LogEntry } from "./accesslog.ts";
import type { Book } from "./book.ts";
import { type Processor, processCodecs } from "./extproc/service.ts";
import type { Home } from "./home.ts";
import type { GatewayOptions } from "./options.ts";
import { createPeerService, type PeerServiceParts } from "./peerservice.ts";
import type { Usage } from "./usage.ts";

const messageLimits = { "grpc.max_receive_message_length": 16 << 20, "grpc.enable_channelz": 0 };
const closeGraceMs = 500;

export interface EnvoyServerParts {
  /** Path of the unix socket. */
  readonly socket: string;
  readonly stack: AsyncDisposableStack;
  readonly xds: Xds;
  readonly processor: Processor;
  readonly usage: Usage;
  readonly about: Partial<ServiceHandlers<typeof GRPCInferenceService>>;
}

/** Listens for its Envoy. */
export async function serveEnvoy({ socket, stack, xds, processor, usage, about }: EnvoyServerParts): Promise<void> {
  const server = new Server({ ...messageLimits, "grpc.max_concurrent_streams": 1_000_000 });
  allowResets(server);
  xds.addTo(server);
  addService(server, ExternalProcessor, { process: (stream) => processor.process(stream) }, processCodecs);
  addService(server, GRPCInferenceService, about);
  addService(server, AccessLogService, { streamAccessLogs: sinkOf(usage) }, logCodecs);
  // A gateway that was killed leaves its socket behind.
  rmSync(socket, { force: true });
  await bindServer(server, `unix:${socket}`);
  stack.defer(async () => {
    xds.close();
    await closeServer(server, closeGraceMs);
  });
}

export interface PeerServerParts {
  readonly options: GatewayOptions;
  readonly stack: AsyncDisposableStack;
  readonly book: Book;
  readonly home: Home;
  readonly identity: Identity | undefined;
  readonly service: PeerServiceParts;
}

/** Listens for other gateways, then tells them where. */
export async function servePeers({ options, stack, book, home, identity, service }: PeerServerParts): Promise<void> {
  const server = new Server(messageLimits);
  allowResets(server);
  addService(server, Peer, createPeerService(service));
  const port = await bindServer(server, authority(options.peerHost, options.peerPort), identity?.serverCredentials(["gateway"]));
  stack.defer(() => closeServer(server, closeGraceMs));
  book.watchGateways({ onGateway: (member) => home.setMember(member), onGone: (gatewayId) => home.removeMember(gatewayId) });
  book.announce({
    gatewayId: options.gatewayId,
    incarnation: randomUUID(),
    peerAddress: authority(options.peerName ?? options.peerHost, port),
  });
}

/** An IPv6 host in brackets. */
function authority(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function sinkOf(usage: Usage): handleClientStreamingCall<readonly LogEntry[], StreamAccessLogsResponse> {
  return (call) => {
    call.on("data", (entries: readonly LogEntry[]) => {
      for (const entry of entries) usage.onEntry(entry);
    });
    // Envoy keeps the stream open for good; when it breaks, Envoy opens another.
    call.on("error", () => undefined);
  };
}

const logCodecs = { streamAccessLogs: { requestDeserialize: decodeAccessLogs } } as const;
