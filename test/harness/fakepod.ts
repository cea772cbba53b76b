// Owns a pod that only says what it holds: a Link and a presence like an adapter's, with no model server of its own. For
// what real pods cannot give: a hundred thousand copies, a load that takes exactly so long, a copy that lies.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Server, type ServerDuplexStream } from "@grpc/grpc-js";
import { addService, bindServer, closeServer } from "#platform/grpc.ts";
import { silentLog } from "#platform/log.ts";
import { runPresence } from "#platform/registry/presence.ts";
import type { Registry } from "#platform/registry/registry.ts";
import {
  type CopySchema,
  CopyState,
  FailureKind,
  type GatewayMessage,
  Link,
  type PodMessage,
  PodMessageSchema,
  type Revision,
} from "#proto/gen/warmpath/link/v1/link_pb.ts";

export type CopyInit = MessageInitShape<typeof CopySchema>;

export interface FakePodOptions {
  readonly registry: Registry;
  readonly podId: string;
  /** `host:port` of whatever answers for its model server. */
  readonly restAddress: string;
  readonly grpcAddress: string;
  /** Whatever answers for it has gRPC alone. */
  readonly restByGrpc?: boolean;
  /** It does not mark its "not found". */
  readonly absenceByStatus?: boolean;
  readonly runtime?: string;
  /** Its model server heeds the header mm-model-id in streams, as scripted ones here do; yes when absent. */
  readonly streamsByHeader?: boolean;
  readonly capacityBytes?: number;
  readonly copies?: readonly CopyInit[];
  /** Called for each load asked for; the copy is ready when it resolves, failed when it rejects. At once when absent. */
  readonly load?: (revision: Revision) => Promise<void>;
}

export interface FakePod extends AsyncDisposable {
  readonly podId: string;
  /** Loads asked for so far. */
  readonly loads: number;
  /** Tells every gateway of changed copies. */
  tell(copies: readonly CopyInit[], withdraw?: boolean): void;
  /** Its model server is lost, and another one takes its place, which holds nothing. */
  loseServer(): void;
  /** Resolves when every gateway has acknowledged the last withdrawal told. */
  whenWithdrawn(): Promise<void>;
  /** What it answers when it is asked whether it really holds a model; true when never set. */
  setHolds(holds: (model: string) => boolean): void;
}

const partSize = 5_000;

export async function openFakePod(options: FakePodOptions): Promise<FakePod> {
  const { podId, registry, runtime = "onnx", load = () => Promise.resolve() } = options;
  const streams = new Map<
    ServerDuplexStream<GatewayMessage, PodMessage>,
    { sequence: bigint; withdrawing: bigint | undefined }
  >();
  const held = new Map<string, CopyInit>();
  let loads = 0;
  let losses = 0;
  let holds = (_model: string): boolean => true;
  let waiters: (() => void)[] = [];
  const keyOf = (copy: CopyInit): string => `${copy.model}@${copy.revision}`;
  for (const copy of options.copies ?? []) held.set(keyOf(copy), copy);

  function tell(copies: readonly CopyInit[], withdraw = false): void {
    for (const copy of copies) {
      if (copy.state === CopyState.GONE) held.delete(keyOf(copy));
      else held.set(keyOf(copy), copy);
    }
    for (const [stream, state] of streams) {
      state.sequence += 1n;
      if (withdraw) state.withdrawing = state.sequence;
      send(stream, { case: "delta", value: { sequence: state.sequence, copies: [...copies], withdraw } });
    }
  }

  async function onLoad(revision: Revision): Promise<void> {
    loads += 1;
    const copy = { model: revision.model, revision: revision.revision, slot: revision.slot, sizeBytes: 100_000n };
    tell([{ ...copy, state: CopyState.LOADING }]);
    try {
      await load(revision);
      tell([{ ...copy, state: CopyState.READY }]);
    } catch (error) {
      tell([{ ...copy, state: CopyState.FAILED, failure: { kind: FailureKind.MODEL, reason: String(error) } }]);
    }
  }

  function onMessage(stream: ServerDuplexStream<GatewayMessage, PodMessage>, { message }: GatewayMessage): void {
    switch (message.case) {
      case "hello": {
        const capacityBytes = BigInt(options.capacityBytes ?? 2 ** 40);
        const { restAddress, grpcAddress, restByGrpc = false, absenceByStatus = false, streamsByHeader = true } = options;
        send(stream, {
          case: "pod",
          value: {
            podId,
            incarnation: podId,
            runtime,
            capacityBytes,
            restAddress,
            grpcAddress,
            restByGrpc,
            absenceByStatus,
            streamsByHeader,
            serverLosses: losses,
          },
        });
        const copies = [...held.values()];
        for (let at = 0; at === 0 || at < copies.length; at += partSize) {
          const last = at + partSize >= copies.length;
          send(stream, { case: "snapshot", value: { sequence: 0n, copies: copies.slice(at, at + partSize), last } });
        }
        streams.set(stream, { sequence: 0n, withdrawing: undefined });
        return;
      }
      case "load":
        if (message.value.revision !== undefined) void onLoad(message.value.revision);
        return;
      case "ping":
        return send(stream, { case: "pong", value: { id: message.value.id } });
      case "verify":
        return send(stream, { case: "verified", value: { id: message.value.id, ready: holds(message.value.model) } });
      case "withdrawAck": {
        const state = streams.get(stream);
        if (state !== undefined && state.withdrawing === message.value.sequence) state.withdrawing = undefined;
        settle();
        return;
      }
      case "drop": {
        const copy = held.get(`${message.value.model}@${message.value.revision}`);
        if (copy !== undefined) tell([{ ...copy, state: CopyState.GONE }]);
        return;
      }
      case "cancelLoad":
      case "usage":
      case "startDrain":
      case "owners":
      case "trim":
      case undefined:
        return;
    }
  }

  function settle(): void {
    if ([...streams.values()].some(({ withdrawing }) => withdrawing !== undefined)) return;
    for (const waiter of waiters) waiter();
    waiters = [];
  }

  const server = new Server({ "grpc.max_receive_message_length": 64 << 20 });
  addService(server, Link, {
    attach(stream) {
      stream.on("data", (message: GatewayMessage) => onMessage(stream, message));
      for (const event of ["end", "error", "cancelled"]) {
        stream.on(event, () => {
          streams.delete(stream);
          settle();
          if (event === "end") stream.end();
        });
      }
    },
  });
  const port = await bindServer(server, "127.0.0.1:0");
  const stop = new AbortController();
  const presence = { podId, incarnation: podId, linkAddress: `127.0.0.1:${port}`, runtime };
  const announced = runPresence(registry, presence, { ttlMs: 10_000, log: silentLog }, stop.signal);
  return {
    podId,
    get loads() {
      return loads;
    },
    tell,
    loseServer() {
      losses += 1;
      for (const stream of streams.keys()) send(stream, { case: "serverLost", value: { losses } });
      tell(Array.from(held.values(), (copy) => ({ ...copy, state: CopyState.GONE })));
    },
    async whenWithdrawn() {
      const { promise, resolve } = Promise.withResolvers<void>();
      waiters.push(resolve);
      settle();
      await promise;
    },
    setHolds(next) {
      holds = next;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await announced;
      for (const stream of streams.keys()) stream.destroy();
      await closeServer(server, 100);
    },
  };
}

function send(
  stream: ServerDuplexStream<GatewayMessage, PodMessage>,
  message: NonNullable<MessageInitShape<typeof PodMessageSchema>["message"]>,
): void {
  stream.write(create(PodMessageSchema, { message }));
}
