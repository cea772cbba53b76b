// Owns what this gateway asks of others: to ensure copies of a model whose home they are, to hear of its use, and whether their
// clients are answered by a revision yet.
//
//   asked --accepted within acceptMs--> waiting --ready or failed--> over
//     |                                    |
//     +-- nothing in time -----------------+-- silent for silenceMs, broken --> lost
//
// Invariants: of each ask exactly one end is told, unless it was cancelled; a frozen gateway is noticed by its silence,
// since one that works says so every second.
import { type ClientReadableStream, type ServiceError, status } from "@grpc/grpc-js";
import { isErrorCode } from "#core/errors.ts";
import type { LoadClass } from "#core/loadqueue.ts";
import type { Priority } from "#core/model.ts";
import { orAborted } from "#platform/clock.ts";
import { createClient, type ServiceClient } from "#platform/grpc.ts";
import type { Log } from "#platform/log.ts";
import { channelOptions, type Identity } from "#platform/tls/identity.ts";
import { type EnsureReply, type Failed, type LoadReply, Peer } from "#proto/gen/warmpath/peer/v1/peer_pb.ts";
import type { Failure } from "./failure.ts";
import type { Member } from "./home.ts";
import { classMessages, priorityMessages } from "./linkmessages.ts";

export interface PeerAsk {
  readonly model: string;
  readonly revision: string;
  readonly loadClass: LoadClass;
  readonly priority: Priority;
  readonly waitMs: number;
  /** A request for it just came back without an answer from one of these pods. */
  readonly returnedFrom?: readonly string[] | undefined;
  readonly traceparent?: string | undefined;
}

export interface PeerAskListener {
  onReady(podIds: readonly string[]): void;
  onFailed(failure: Failure): void;
  /** It does not answer, or not any more. */
  onLost(reason: string): void;
}

/** Copies that somebody asked for by name. */
export interface PeerWish {
  readonly model: string;
  readonly revision: string;
  readonly copies: number;
  /** Until they are ready or have failed. */
  readonly wait: boolean;
  readonly timeoutMs: number;
}

export interface CopiesThere {
  readonly kind: "ok";
  readonly ready: number;
  readonly underWay: number;
}

/** The use of one model since the last report. */
export interface PeerUse {
  readonly model: string;
  readonly requests: number;
  /** Those of them that were answered well. */
  readonly answered: number;
  /** Those of them that had waited for a load. */
  readonly waited: number;
  readonly busyMs: number;
  /** So many of them one sample stood for, at most. */
  readonly weight: number;
  /** Those that came to no pod. */
  readonly misses: number;
  readonly idleMs: number;
}

export interface Peers extends Disposable {
  /** Returns how to cancel it: nobody waits any more, and nothing is told any more. */
  ensure(member: Member, ask: PeerAsk, listener: PeerAskListener): () => void;
  /** Resolves with what the home made of the wish, or when the signal says that nobody waits. */
  load(member: Member, ask: PeerWish, signal: AbortSignal): Promise<CopiesThere | Failure>;
  report(member: Member, uses: readonly PeerUse[]): void;
  /** Whether its clients are answered by this active revision; false when it does not answer within a second. */
  isSettled(member: Member, model: string, active: string): Promise<boolean>;
  /** The member left, or is another process now. */
  forget(gatewayId: string): void;
}

export interface PeersParts {
  readonly gatewayId: string;
  readonly log: Log;
  /** Plain text when absent. */
  readonly identity?: Identity | undefined;
  /** 250 ms when absent. */
  readonly acceptMs?: number;
  /** 3 s when absent. */
  readonly silenceMs?: number;
}

const reportTimeoutMs = 1_000;
const settledTimeoutMs = 1_000;
const maxReasonLength = 500;

export function createPeers(parts: PeersParts): Peers {
  const { acceptMs = 250, silenceMs = 3_000 } = parts;
  const clients = new Map<string, { readonly address: string; readonly client: ServiceClient<typeof Peer> }>();

  function clientOf({ gatewayId, peerAddress }: Member): ServiceClient<typeof Peer> {
    const known = clients.get(gatewayId);
    if (known?.address === peerAddress) return known.client;
    known?.client[Symbol.dispose]();
    const client = createClient(Peer, peerAddress, parts.identity?.channelCredentials(), {
      channel: {
        ...(parts.identity === undefined ? {} : channelOptions("gateway")),
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 1_000,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_channelz": 0,
      },
    });
    clients.set(gatewayId, { address: peerAddress, client });
    return client;
  }

  /**
   * Of what a gateway says while it works on something: `read` gives what is to be told when it is the end. Returns how to
   * cancel it.
   */
  function follow<Reply extends EnsureReply | LoadReply>(
    stream: ClientReadableStream<Reply>,
    read: (reply: Reply) => (() => void) | undefined,
    onLost: (reason: string) => void,
  ): () => void {
    let over = false;
    let timer = setTimeout(() => lose(`no answer within ${acceptMs} ms`), acceptMs);
    const end = (tell: () => void): void => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      stream.cancel();
      tell();
    };
    const lose = (reason: string): void => end(() => onLost(reason));
    stream.on("data", (message: Reply) => {
      if (over) return undefined;
      const tell = read(message);
      if (tell !== undefined) return end(tell);
      clearTimeout(timer);
      timer = setTimeout(() => lose(`nothing heard for ${silenceMs} ms`), silenceMs);
      return undefined;
    });
    stream.on("error", (error) => lose(error.message));
    stream.on("end", () => lose("it ended without an answer"));
    return () => end(() => undefined);
  }

  return {
    ensure(member, ask, listener) {
      const stream = clientOf(member).ensure({
        $typeName: "warmpath.peer.v1.EnsureRequest",
        gatewayId: parts.gatewayId,
        model: ask.model,
        revision: ask.revision,
        loadClass: classMessages[ask.loadClass],
        priority: priorityMessages[ask.priority],
        waitMs: Math.min(Math.max(1, Math.round(ask.waitMs)), 2 ** 31),
        returnedFrom: [...(ask.returnedFrom ?? [])],
        traceparent: ask.traceparent ?? "",
      });
      return follow(
        stream,
        ({ reply }) => {
          if (reply.case === "ready") return () => listener.onReady(reply.value.podIds);
          return reply.case === "failed" ? () => listener.onFailed(toFailure(reply.value)) : undefined;
        },
        (reason) => listener.onLost(reason),
      );
    },
    async load(member, ask, signal) {
      const { gatewayId } = parts;
      const stream = clientOf(member).load({ $typeName: "warmpath.peer.v1.LoadRequest", gatewayId, ...ask });
      const { promise, resolve } = Promise.withResolvers<CopiesThere | Failure>();
      const cancel = follow(
        stream,
        ({ reply }) => {
          if (reply.case === "copies") return () => resolve({ kind: "ok", ...reply.value });
          return reply.case === "failed" ? () => resolve(toFailure(reply.value)) : undefined;
        },
        (reason) => {
          const who = `gateway '${member.gatewayId}', the home of the model`;
          resolve({ kind: "failed", code: "unavailable", reason: `${who}, does not answer: ${reason}` });
        },
      );
      try {
        return await orAborted(promise, signal);
      } catch {
        cancel();
        return { kind: "failed", code: "cancelled", reason: "the caller went away" };
      }
    },
    report(member, uses) {
      const sent = clientOf(member).report(
        {
          $typeName: "warmpath.peer.v1.UseReport",
          gatewayId: parts.gatewayId,
          uses: uses.map((use) => ({ $typeName: "warmpath.peer.v1.UseReport.Use", ...use, idleMs: Math.round(use.idleMs) })),
        },
        { timeoutMs: reportTimeoutMs },
      );
      // The next report speaks for itself: what is lost here is half a second of rates.
      sent.catch((error: unknown) => parts.log.debug("a report of use was lost", { gatewayId: member.gatewayId, error }));
    },
    async isSettled(member, model, active) {
      try {
        const { gatewayId } = parts;
        const asked = { $typeName: "warmpath.peer.v1.SettledRequest", gatewayId, model, active } as const;
        return (await clientOf(member).settled(asked, { timeoutMs: settledTimeoutMs })).settled;
      } catch (error) {
        // One of a version before this call cannot say, and is not waited for.
        if ((error as Partial<ServiceError>).code === status.UNIMPLEMENTED) return true;
        parts.log.debug("a gateway does not say what its clients are answered by", { gatewayId: member.gatewayId, error });
        return false;
      }
    },
    forget(gatewayId) {
      clients.get(gatewayId)?.client[Symbol.dispose]();
      clients.delete(gatewayId);
    },
    [Symbol.dispose]() {
      for (const { client } of clients.values()) client[Symbol.dispose]();
      clients.clear();
    },
  };
}

function toFailure({ code, reason, retryAfterMs }: Failed): Failure {
  return {
    kind: "failed",
    code: isErrorCode(code) ? code : "internal",
    reason: reason.slice(0, maxReasonLength),
    ...(retryAfterMs === 0 ? {} : { retryAfterMs }),
  };
}
