// Owns one Link: a stream to one adapter, from connect to break.
//
//   connecting --Pod, last Snapshot--> linked --gap, silence, error, end--> broken
//
// Invariants: the fleet sees a holding only when its snapshot is whole; a gap in the sequence breaks the Link rather than
// being passed over; silence for longer than silenceMs breaks it too, and so does an adapter that speaks but does not hear:
// its pongs are missed. A gateway that stood still itself gives the adapter time again before it judges. What an adapter
// does not read is bounded. A broken Link is never used again: its owner opens another.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Clock } from "#platform/clock.ts";
import { createClient } from "#platform/grpc.ts";
import { channelOptions, type Identity } from "#platform/tls/identity.ts";
import {
  type Draining,
  GatewayMessageSchema,
  Link as LinkService,
  type LoadRefused,
  LoadRefused_Why,
  type PodMessage,
} from "#proto/gen/warmpath/link/v1/link_pb.ts";
import type { Copy, CopyChange, PodGauges, PodInfo } from "./fleet.ts";
import { type LoadTimes, parseCopy, parseGauges, parseLoadTimes, parsePod } from "./linkmessages.ts";

export interface LinkListener {
  onLinked(info: PodInfo, copies: readonly Copy[]): void;
  /** `withdraw`: the adapter waits for acknowledgeWithdraw(sequence). */
  onDelta(changes: readonly CopyChange[], sequence: bigint, withdraw: boolean): void;
  onGauges(gauges: PodGauges): void;
  onRefused(refused: {
    readonly model: string;
    readonly revision: string;
    readonly why: LoadRefused_Why;
    readonly reason: string;
  }): void;
  /** Where the time of a load went, before its copy is said to be ready or failed. */
  onLoadTimes(times: LoadTimes): void;
  onDraining(copies: readonly CopyChange[], patienceMs: number): void;
  /** Its model server died, or was started anew. */
  onServerDied(): void;
  /** How often it has been lost now. */
  onServerLost(losses: number): void;
  /** Once, at the end. */
  onBroken(reason: string): void;
}

type ToAdapter = NonNullable<MessageInitShape<typeof GatewayMessageSchema>["message"]>;

export interface Link {
  send(message: ToAdapter): void;
  /** For what is told again soon and better: left out while the adapter does not read. */
  sendUnlessBusy(message: ToAdapter): void;
  /** Does the model server really hold the copy? False as well when nobody answers in time. */
  verify(model: string, revision: string, timeoutMs: number): Promise<boolean>;
  close(reason: string): void;
}

export interface LinkOptions {
  readonly gatewayId: string;
  /** `host:port` of the adapter. */
  readonly address: string;
  readonly clock: Clock;
  readonly pingMs: number;
  readonly silenceMs: number;
  /** Plain text when absent. */
  readonly identity?: Identity | undefined;
}

/** Of a stream of objects: messages that the connection has not taken. */
const maxUnsent = 50_000;
const looksPerPing = 4;

export function openLink(options: LinkOptions, listener: LinkListener): Link {
  const { clock, pingMs, silenceMs } = options;
  const lookMs = pingMs / looksPerPing;
  const client = createClient(LinkService, options.address, options.identity?.channelCredentials(), {
    channel: {
      ...(options.identity === undefined ? {} : channelOptions("adapter")),
      "grpc.max_receive_message_length": 16 << 20,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_channelz": 0,
    },
  });
  const stream = client.attach();
  let info: PodInfo | undefined;
  let snapshot: Copy[] | undefined = [];
  let sequence = 0n;
  let heardMs = clock.monotonicMs();
  let pongMs = heardMs;
  let lookedMs = heardMs;
  let broken = false;
  let nextId = 1n;
  const verifying = new Map<bigint, (ready: boolean) => void>();

  function send(message: ToAdapter): void {
    if (broken) return;
    stream.write(create(GatewayMessageSchema, { message }));
    if (stream.writableLength > maxUnsent) end(`it does not read: ${maxUnsent} messages wait`);
  }

  function end(reason: string): void {
    if (broken) return;
    broken = true;
    clearInterval(timer);
    stream.cancel();
    client[Symbol.dispose]();
    for (const answer of verifying.values()) answer(false);
    verifying.clear();
    listener.onBroken(reason);
  }

  function onCopies(message: Extract<PodMessage["message"], { case: "snapshot" | "delta" }>): void {
    const changes = message.value.copies.map(parseCopy);
    if (changes.some((change) => change === undefined)) return end("the adapter sent a copy that cannot be");
    const known = changes.filter((change) => change !== undefined);
    if (message.case === "snapshot") {
      if (snapshot === undefined || info === undefined) return end("the adapter sent a snapshot out of turn");
      for (const change of known) if (change.state !== "gone") snapshot.push({ ...change, state: change.state });
      sequence = message.value.sequence;
      if (!message.value.last) return undefined;
      const copies = snapshot;
      snapshot = undefined;
      return listener.onLinked(info, copies);
    }
    if (snapshot !== undefined) return end("the adapter sent a delta before its snapshot");
    if (message.value.sequence !== sequence + 1n) return end(`the adapter's deltas have a gap after ${sequence}`);
    sequence = message.value.sequence;
    return listener.onDelta(known, sequence, message.value.withdraw);
  }

  function onDraining({ copies, patienceMs }: Draining): void {
    const known = copies.map(parseCopy).filter((copy) => copy !== undefined);
    return known.length < copies.length ? end("the adapter sent a copy that cannot be") : listener.onDraining(known, patienceMs);
  }

  function onMessage({ message }: PodMessage): void {
    if (broken) return undefined;
    heardMs = clock.monotonicMs();
    switch (message.case) {
      case "pod":
        info = parsePod(message.value);
        return info === undefined ? end("the adapter said what no pod can be") : undefined;
      case "snapshot":
      case "delta":
        return onCopies(message);
      case "gauges":
        return listener.onGauges(parseGauges(message.value));
      case "loadRefused":
        return listener.onRefused(refusal(message.value));
      case "draining":
        return onDraining(message.value);
      case "loadTimes":
        return listener.onLoadTimes(parseLoadTimes(message.value));
      case "serverDied":
        return listener.onServerDied();
      case "serverLost":
        return listener.onServerLost(message.value.losses);
      case "verified": {
        verifying.get(message.value.id)?.(message.value.ready);
        verifying.delete(message.value.id);
        return undefined;
      }
      case "pong":
        pongMs = heardMs;
        return undefined;
      case undefined:
        return undefined;
    }
  }

  stream.on("data", onMessage);
  stream.on("error", (error) => end(error.message));
  stream.on("end", () => end("the adapter closed the Link"));
  let looks = 0;
  const timer = setInterval(() => {
    const nowMs = clock.monotonicMs();
    // Who stood still has not listened: what came meanwhile is read after this.
    const stoodMs = nowMs - lookedMs - lookMs;
    lookedMs = nowMs;
    if (stoodMs > lookMs) {
      heardMs += stoodMs;
      pongMs += stoodMs;
    }
    if (nowMs - heardMs > silenceMs) return end(`nothing heard for ${silenceMs} ms`);
    // A snapshot may keep it busy: it is given twice the time.
    if (nowMs - pongMs > 2 * silenceMs) return end(`it does not hear: no answer for ${2 * silenceMs} ms`);
    looks += 1;
    if (looks % looksPerPing !== 0) return undefined;
    nextId += 1n;
    return send({ case: "ping", value: { id: nextId } });
  }, lookMs);
  send({ case: "hello", value: { gatewayId: options.gatewayId } });

  return {
    send,
    sendUnlessBusy(message) {
      if (!stream.writableNeedDrain) send(message);
    },
    async verify(model, revision, timeoutMs) {
      if (broken) return false;
      nextId += 1n;
      const id = nextId;
      const { promise, resolve } = Promise.withResolvers<boolean>();
      verifying.set(id, resolve);
      const late = setTimeout(() => resolve(false), timeoutMs);
      send({ case: "verify", value: { id, model, revision } });
      try {
        return await promise;
      } finally {
        clearTimeout(late);
        verifying.delete(id);
      }
    },
    close: end,
  };
}

function refusal({ model, revision, why, reason }: LoadRefused): {
  model: string;
  revision: string;
  why: LoadRefused_Why;
  reason: string;
} {
  return { model, revision, why, reason: reason.slice(0, 500) };
}
