// Owns the IO around delta xDS sessions: the AggregatedDiscoveryService on grpc-js, one session per stream.
// Invariants: one stream per Envoy, the newest wins; what is told in one turn of the event loop leaves in one response
// per type; no more than `maxUnflushedBytes` wait in a stream that Envoy does not read, changes meet in the session
// meanwhile. State-of-the-world streams answer UNIMPLEMENTED.
import { type Server, type ServerDuplexStream, status } from "@grpc/grpc-js";
import { addService } from "#platform/grpc.ts";
import type { Log } from "#platform/log.ts";
import { AggregatedDiscoveryService } from "#proto/gen/envoy/service/discovery/v3/ads_pb.ts";
import { decodeDeltaRequest, encodeDeltaResponse, type WireRequest } from "./codec.ts";
import {
  type AckedResource,
  createDeltaSession,
  type DeltaSession,
  type RefusedResource,
  type ResourceView,
  type SessionEffect,
  type SessionLimits,
} from "./session.ts";

export interface XdsEvent {
  /** The id of Envoy's node. */
  readonly nodeId: string;
}

export interface XdsInitial extends XdsEvent {
  readonly typeUrl: string;
  /** By name. */
  readonly versions: Readonly<Record<string, string>>;
}

export interface XdsAcked extends XdsEvent {
  readonly typeUrl: string;
  /** Since the response was written. */
  readonly tookMs: number;
  readonly resources: readonly AckedResource[];
}

export interface XdsNacked extends XdsEvent {
  readonly typeUrl: string;
  readonly names: readonly string[];
  readonly message: string;
  /** See SessionEffect. */
  readonly final: boolean;
}

export interface XdsDisconnected extends XdsEvent {
  readonly reason: "ended" | "replaced" | "closed";
}

export interface XdsOptions {
  readonly view: ResourceView;
  readonly limits?: Partial<SessionLimits>;
  /** Bytes handed to a stream and not yet taken by the connection before the next response waits; 4 MiB when absent. */
  readonly maxUnflushedBytes?: number;
  readonly onAcked: (event: XdsAcked) => void;
  readonly onNacked: (event: XdsNacked) => void;
  /** What Envoy has from before, of a type, in its first request for it; told before it is compared with the view. */
  readonly onInitial?: (event: XdsInitial) => void;
  readonly onConnected: (event: XdsEvent) => void;
  readonly onDisconnected: (event: XdsDisconnected) => void;
  readonly log: Log;
}

export interface XdsHandlers {
  /** Registers the service on a server. */
  addTo(server: Server): void;
  /** These resources changed in the table, appeared or went. Cheap; many calls in one turn become one response. */
  notify(typeUrl: string, names: Iterable<string>): void;
  /** Whether an Envoy is connected and every connected Envoy has ACKed exactly this version; undefined: has none. */
  isLive(typeUrl: string, name: string, version: string | undefined): boolean;
  /** What the connected Envoys refuse. */
  refused(): readonly RefusedResource[];
  /** Node ids of the connected Envoys. */
  connected(): readonly string[];
  /** Ends all streams. */
  close(): void;
}

type DeltaCall = ServerDuplexStream<WireRequest, Buffer>;

const codecs = {
  deltaAggregatedResources: {
    requestDeserialize: (bytes: Buffer): WireRequest => decodeDeltaRequest(bytes),
    responseSerialize: (bytes: Buffer): Buffer => bytes,
  },
};

export function createXdsHandlers(options: XdsOptions): XdsHandlers {
  const streams = new Map<string, Stream>();
  const onFirst = (stream: Stream): void => {
    streams.get(stream.nodeId)?.end("replaced");
    streams.set(stream.nodeId, stream);
    options.log.info("envoy connected", { nodeId: stream.nodeId });
    options.onConnected({ nodeId: stream.nodeId });
  };
  const onEnd = (stream: Stream, reason: XdsDisconnected["reason"]): void => {
    if (streams.get(stream.nodeId) !== stream) return;
    streams.delete(stream.nodeId);
    options.log.info("envoy disconnected", { nodeId: stream.nodeId, reason });
    options.onDisconnected({ nodeId: stream.nodeId, reason });
  };
  return {
    addTo: (server) =>
      addService(
        server,
        AggregatedDiscoveryService,
        { deltaAggregatedResources: (call) => new Stream(call, options, onFirst, onEnd).listen() },
        codecs,
      ),
    notify: (typeUrl, names) => {
      for (const stream of streams.values()) stream.changed(typeUrl, names);
    },
    isLive: (typeUrl, name, version) => {
      for (const { session } of streams.values()) if (!session.isLive(typeUrl, name, version)) return false;
      return streams.size > 0;
    },
    refused: () => [...streams.values()].flatMap(({ session }) => session.refused()),
    connected: () => [...streams.keys()],
    close: () => {
      for (const stream of streams.values()) stream.end("closed");
    },
  };
}

const endings = {
  replaced: { code: status.ABORTED, details: "a newer stream of the same node took over" },
  closed: { code: status.UNAVAILABLE, details: "the server stops" },
} as const;

class Stream {
  readonly session: DeltaSession;
  /** Empty until the first request. */
  nodeId = "";
  readonly #call: DeltaCall;
  readonly #options: XdsOptions;
  readonly #maxUnflushedBytes: number;
  readonly #onFirst: (stream: Stream) => void;
  readonly #onEnd: (stream: Stream, reason: XdsDisconnected["reason"]) => void;
  #ended = false;
  #scheduled = false;
  #full = false;
  #unflushedBytes = 0;
  /** By type; one response of a type is in flight at a time. */
  readonly #sentMs = new Map<string, number>();

  constructor(
    call: DeltaCall,
    options: XdsOptions,
    onFirst: (stream: Stream) => void,
    onEnd: (stream: Stream, reason: XdsDisconnected["reason"]) => void,
  ) {
    this.#call = call;
    this.#options = options;
    this.#maxUnflushedBytes = options.maxUnflushedBytes ?? 4 * 1024 * 1024;
    this.#onFirst = onFirst;
    this.#onEnd = onEnd;
    this.session = createDeltaSession(options.view, options.limits);
  }

  listen(): void {
    const call = this.#call;
    call.on("data", (request: WireRequest) => this.#receive(request));
    call.on("drain", () => {
      this.#full = false;
      this.#flush();
    });
    for (const event of ["end", "cancelled", "error", "close"]) call.on(event, () => this.end("ended"));
  }

  changed(typeUrl: string, names: Iterable<string>): void {
    this.session.handle({ kind: "changed", typeUrl, names });
    this.#schedule();
  }

  end(reason: XdsDisconnected["reason"]): void {
    if (this.#ended) return;
    this.#ended = true;
    this.session.handle({ kind: "closed" });
    if (reason === "ended") this.#call.end();
    else this.#call.emit("error", endings[reason]);
    this.#onEnd(this, reason);
  }

  #receive(request: WireRequest): void {
    if (this.#ended) return;
    if (this.nodeId === "" && !this.#introduce(request)) return;
    const versions = request.initialResourceVersions;
    if (Object.keys(versions).length > 0) this.#options.onInitial?.({ nodeId: this.nodeId, typeUrl: request.typeUrl, versions });
    for (const effect of this.session.handle({ kind: "request", request })) this.#tell(effect);
    this.#schedule();
  }

  /** Envoy says who it is in the first request only. */
  #introduce(request: WireRequest): boolean {
    if (request.nodeId === "") {
      this.#options.log.warn("xds stream without a node id");
      this.#ended = true;
      this.#call.emit("error", { code: status.INVALID_ARGUMENT, details: "the first request of a stream must carry node.id" });
      return false;
    }
    this.nodeId = request.nodeId;
    this.#onFirst(this);
    return true;
  }

  #tell(effect: SessionEffect): void {
    const { nodeId } = this;
    if (effect.kind === "acked") {
      const { typeUrl, resources } = effect;
      const tookMs = performance.now() - (this.#sentMs.get(typeUrl) ?? performance.now());
      this.#options.onAcked({ nodeId, typeUrl, resources, tookMs });
      return;
    }
    const { typeUrl, names, message, final } = effect;
    this.#options.log.warn("envoy refused resources", {
      nodeId,
      typeUrl,
      names: names.slice(0, 10),
      count: names.length,
      message,
      final,
    });
    this.#options.onNacked({ nodeId, typeUrl, names, message, final });
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (!this.#ended && !this.#full && this.#unflushedBytes < this.#maxUnflushedBytes) {
      const response = this.session.next();
      if (response === undefined) return;
      this.#sentMs.set(response.typeUrl, performance.now());
      this.#write(encodeDeltaResponse(response));
    }
  }

  #write(bytes: Buffer): void {
    this.#unflushedBytes += bytes.length;
    // The stream counts messages, not bytes, so its own "full" comes late for large responses.
    this.#full = !this.#call.write(bytes, () => {
      this.#unflushedBytes -= bytes.length;
      this.#schedule();
    });
  }
}
