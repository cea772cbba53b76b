// Owns what becomes of an ask when it comes and when it goes: whether it is answered at once, refused, or joins the queue.
// Invariant: every ask that is let go of is told of to each gateway behind it, once.
import type { Ask, Asks } from "./asks.ts";
import { copyKey } from "./copies.ts";
import type { HoldingEffect, HoldingEvent, RefusalWhy } from "./events.ts";
import type { Ledger } from "./ledger.ts";
import type { Publication } from "./publication.ts";
import { neverFits } from "./room.ts";
import { nameOf } from "./views.ts";
import type { Weights } from "./weights.ts";

export interface IntakeParts {
  readonly ledger: Ledger;
  readonly asks: Asks;
  readonly weights: Weights;
  readonly publication: Publication;
  readonly emit: (effect: HoldingEffect) => void;
  /** Why no load is taken on now. */
  readonly closed: (nowMs: number) => string | undefined;
}

export interface Intake {
  ask(event: Extract<HoldingEvent, { kind: "load-asked" }>, nowMs: number): void;
  cancel(key: string, gatewayId: string): void;
  /** Lets go of an ask and tells each gateway behind it why. */
  refuse(ask: Ask, why: RefusalWhy, reason: string): void;
  refuseAll(why: RefusalWhy, reason: string): void;
}

export function createIntake({ ledger, asks, weights, publication, emit, closed }: IntakeParts): Intake {
  const refuse = (ask: Ask, why: RefusalWhy, reason: string): void => {
    asks.remove(ask.key);
    const { model, revision } = ask;
    for (const gatewayId of ask.gateways) emit({ kind: "refuse", gatewayId, model, revision: revision.id, why, reason });
    if (!ledger.has(ask.key)) ledger.move(nameOf(ask), "queued", "gone");
  };

  const queue = (event: Extract<HoldingEvent, { kind: "load-asked" }>, key: string, lastUsedMs: number, nowMs: number): void => {
    const { gatewayId, model, revision, serverName, loadClass, tenant, tenantBytes } = event;
    const turnAway = (why: RefusalWhy, reason: string): void =>
      emit({ kind: "refuse", gatewayId, model, revision: revision.id, why, reason });
    const why = closed(nowMs);
    if (why !== undefined) return turnAway("stopping", why);
    const facts = { key, format: revision.format, sizeHintBytes: revision.sizeHintBytes };
    const neededBytes = weights.predict(facts, nowMs) ?? 0;
    const { capacityBytes } = weights.allowance;
    if (neededBytes > capacityBytes) return turnAway("no-room", neverFits(neededBytes, capacityBytes));
    const deadlineMs = nowMs + event.waitMs;
    const { priority = "normal", pinned = false, requestsPerSecond = 0, traceparent } = event;
    const asked = { gatewayId, traceparent, key, model, revision, serverName, loadClass, priority };
    const ask = { ...asked, pinned, tenant, tenantBytes, requestsPerSecond, deadlineMs, lastUsedMs };
    const added = asks.add(ask, nowMs);
    if (added.kind === "queue-full") return turnAway("queue-full", `${asks.size} loads are waiting already`);
    if (added.kind === "too-late") return turnAway("deadline", "its deadline has passed already");
    if (added.kind === "joined") return undefined;
    if ("dropped" in added) refuse(added.dropped, "queue-full", "more urgent loads took its place in a full queue");
    const copy = ledger.get(key);
    if (copy?.state === "failed") ledger.forget(copy);
    // Until what is leaving under this name is gone, that is what gateways see.
    else if (copy !== undefined) return undefined;
    return ledger.move({ model, revision: revision.id, slot: revision.slot }, copy === undefined ? "gone" : "failed", "queued");
  };

  return {
    ask(event, nowMs): void {
      const { gatewayId, model, revision, loadClass, tenant, pinned = false } = event;
      const key = copyKey({ model, revision: revision.id });
      const userWaits = loadClass === "waiting-user";
      const lastUsedMs = nowMs - (userWaits ? 0 : event.idleMs);
      publication.answers(gatewayId, key);
      const copy = ledger.get(key);
      if (copy !== undefined) Object.assign(copy, { pinned, tenant });
      if (copy?.state === "ready") return ledger.touch(key, lastUsedMs);
      if (copy?.state !== "loading") return queue(event, key, lastUsedMs, nowMs);
      copy.lastUsedMs = Math.max(copy.lastUsedMs, lastUsedMs);
      copy.userWaits ||= userWaits;
      return undefined;
    },
    cancel(key, gatewayId): void {
      const ask = asks.get(key);
      if (ask !== undefined && asks.leave(key, gatewayId) && !ledger.has(key)) ledger.move(nameOf(ask), "queued", "gone");
    },
    refuse,
    refuseAll(why, reason): void {
      for (const ask of Array.from(asks.values())) refuse(ask, why, reason);
    },
  };
}
