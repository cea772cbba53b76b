// Owns what other gateways ask of this one: it decides on the spot, whoever it believes to be the home, so no two
// gateways send each other a request in turns.
import type { EventEmitter } from "node:events";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { LoadClass } from "#core/loadqueue.ts";
import { findRevision, type Model, type ModelName, type Priority, parseModelName, type Revision } from "#core/model.ts";
import type { Clock } from "#platform/clock.ts";
import type { ServiceHandlers } from "#platform/grpc.ts";
import { LoadClass as LoadClassMessage, Priority as PriorityMessage } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import {
  EnsureReplySchema,
  LoadReplySchema,
  type Peer,
  SettledReplySchema,
  UseReceiptSchema,
  type UseReport,
} from "#proto/gen/warmpath/peer/v1/peer_pb.ts";
import type { Failure } from "./failure.ts";
import type { CopyName } from "./fleet.ts";
import type { Loads } from "./loads.ts";
import type { CopiesThere, PeerUse } from "./peers.ts";
import { type MissSpans, silentSpan } from "./spans.ts";
import type { WishAsk } from "./wishes.ts";

export interface PeerServiceParts {
  readonly findModel: (name: ModelName) => Model | undefined;
  readonly loads: Pick<Loads, "ensure">;
  readonly clock: Clock;
  /** Pods that hold the revision ready, now. */
  readonly readyPods: (model: string, revision: string) => readonly string[];
  readonly onUse: (uses: readonly PeerUse[]) => void;
  /** Brings about copies that were asked for by name, whoever the home is. */
  readonly wish: (model: string, revision: string, ask: WishAsk) => Promise<CopiesThere | Failure>;
  /** This gateway's clients are answered by this active revision. */
  readonly isSettled: (model: string, active: string) => boolean;
  /** A request for the revision came back to the other gateway from one of these pods. */
  readonly onReturned?: (copy: CopyName, podIds: readonly string[]) => void;
  /** How often a gateway that still works on something says so; 1 s when absent. */
  readonly beatMs?: number;
  readonly maxWaitMs: number;
  /** Nothing is traced when absent. */
  readonly spans?: Pick<MissSpans, "resume">;
}

type LoadReplyInit = NonNullable<MessageInitShape<typeof LoadReplySchema>["reply"]>;
type FailedReply = Extract<Reply, { readonly case: "failed" }>;
type Reply = NonNullable<MessageInitShape<typeof EnsureReplySchema>["reply"]>;

const maxUses = 100_000;
const maxReturnedFrom = 1_000;
const over = new Error("the peer does not wait any more");

const classes: ReadonlyMap<LoadClassMessage, LoadClass> = new Map([
  [LoadClassMessage.WAITING_USER, "waiting-user"],
  [LoadClassMessage.ENSURE, "ensure"],
  [LoadClassMessage.SCALE_UP, "scale-up"],
  [LoadClassMessage.MIGRATE, "migrate"],
  [LoadClassMessage.PROACTIVE, "proactive"],
]);
const priorities: ReadonlyMap<PriorityMessage, Priority> = new Map([
  [PriorityMessage.HIGH, "high"],
  [PriorityMessage.LOW, "low"],
]);

export function createPeerService(parts: PeerServiceParts): ServiceHandlers<typeof Peer> {
  function find(asked: { readonly model: string; readonly revision: string }): { model: Model; revision: Revision } | undefined {
    const name = parseModelName(asked.model);
    const model = name.kind === "ok" ? parts.findModel(name.name) : undefined;
    const revision = model === undefined ? undefined : findRevision(model, asked.revision);
    return model === undefined || revision === undefined ? undefined : { model, revision };
  }

  /** Says now and then that it goes on; the signal says that nobody waits any more. */
  function working(call: Pick<EventEmitter, "on">, say: () => void): { readonly signal: AbortSignal; end(): void } {
    const gone = new AbortController();
    call.on("cancelled", () => gone.abort(over));
    call.on("error", () => gone.abort(over));
    say();
    const beat = setInterval(say, parts.beatMs ?? 1_000);
    return { signal: gone.signal, end: () => clearInterval(beat) };
  }

  return {
    ensure(call) {
      const say = (reply: Reply): void => void call.write(create(EnsureReplySchema, { reply }));
      const answer = (reply: Reply): void => {
        say(reply);
        call.end();
      };
      const { request } = call;
      const found = find(request);
      const loadClass = classes.get(request.loadClass);
      if (found === undefined || loadClass === undefined) return answer(unknown);
      const { model, revision } = found;
      const { signal, end } = working(call, () => say({ case: "accepted", value: {} }));
      const traceparent = request.traceparent === "" ? undefined : request.traceparent;
      const span = parts.spans?.resume("ensure", traceparent) ?? silentSpan;
      span.setModel(model.name);
      const { returnedFrom } = request;
      if (returnedFrom.length > 0) {
        parts.onReturned?.({ model: model.name, revision: revision.id }, returnedFrom.slice(0, maxReturnedFrom));
      }
      const ensured = parts.loads.ensure(model, {
        revision,
        deadlineMs: parts.clock.monotonicMs() + Math.min(request.waitMs, parts.maxWaitMs),
        signal,
        span,
        loadClass,
        priority: priorities.get(request.priority) ?? "normal",
        here: true,
      });
      void ensured.then((result) => {
        end();
        span.end(result.kind === "failed" ? result.code : undefined);
        if (signal.aborted) return;
        if (result.kind === "failed") answer(failed(result));
        else answer({ case: "ready", value: { podIds: [...parts.readyPods(model.name, revision.id)] } });
      });
      return undefined;
    },
    load(call) {
      const say = (reply: LoadReplyInit): void => void call.write(create(LoadReplySchema, { reply }));
      const answer = (reply: LoadReplyInit): void => {
        say(reply);
        call.end();
      };
      const { request } = call;
      const found = find(request);
      if (found === undefined) return answer(unknown);
      const { signal, end } = working(call, () => say({ case: "accepted", value: {} }));
      const { copies, wait, timeoutMs } = request;
      void parts.wish(found.model.name, found.revision.id, { copies, wait, timeoutMs, signal }).then((result) => {
        end();
        if (signal.aborted) return;
        const { kind } = result;
        answer(kind === "ok" ? { case: "copies", value: { ready: result.ready, underWay: result.underWay } } : failed(result));
      });
      return undefined;
    },
    report({ request }, done) {
      parts.onUse(parseUses(request));
      done(null, create(UseReceiptSchema));
    },
    settled({ request: { model, active } }, done) {
      done(null, create(SettledReplySchema, { settled: parts.isSettled(model, active) }));
    },
  };
}

/** The asker knows it: its registry is ahead of ours. */
const unknown = failed({ kind: "failed", code: "model-not-found", reason: "this gateway does not know the revision" });

function failed({ code, reason, retryAfterMs = 0 }: Failure): FailedReply {
  return { case: "failed", value: { code, reason, retryAfterMs: Math.min(Math.ceil(retryAfterMs), 2 ** 31) } };
}

function parseUses({ uses }: UseReport): readonly PeerUse[] {
  return uses.slice(0, maxUses).flatMap(({ model, requests, answered, waited, busyMs, weight, misses, idleMs }) => {
    const sound = [requests, answered, waited, busyMs, weight, misses].every((value) => Number.isFinite(value) && value >= 0);
    return sound && parseModelName(model).kind === "ok"
      ? [{ model, requests, answered, waited, busyMs, weight, misses, idleMs }]
      : [];
  });
}
