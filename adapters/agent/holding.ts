// Owns the holding of one pod: the only writer of its copies. A deterministic machine without IO: events and the time go
// in, effects come out, in the order in which they must be performed. copies.ts draws the states, asks.ts the way of a
// load to its start, departures.ts the way from `leaving` to unloaded.
//
// Invariants:
// - used + reserved bytes exceed the capacity only by what copies measured more than was predicted (or held when the
//   adapter started), and evictions repay that at once. `used` counts a leaving copy until it is unloaded.
// - A load starts only when its predicted bytes are free and no other copy has its name on the model server.
// - The oldest in hand is never overtaken by a later one that would take the room made for it.
// - A copy asked for while it is leaving goes its way to the end and is queued again behind it: gateways may have taken
//   its route away already, so turning back would need as many messages as loading again.
// - Every ask ends: its copy becomes ready or failed, or it is refused, or nobody asks any longer.
import { createLru } from "#core/lru.ts";
import { chooseVictims, type EvictionCandidate } from "#core/placement/evict.ts";
import { type Ask, createAsks } from "./asks.ts";
import {
  assertArrow,
  copyKey,
  type CopyFailure,
  type CopyName,
  type CopyState,
  type CopyView,
  maxReasonLength,
} from "./copies.ts";
import { createDepartures } from "./departures.ts";
import type { HeldCopy, HoldingEffect, HoldingEvent, RefusalWhy } from "./events.ts";
import { createSizes, type SizeFacts } from "./sizes.ts";

export interface HoldingOptions {
  readonly capacityBytes: number;
  /** Kept free beyond what loads need, so that the next one need not wait for an eviction; 0 when absent. */
  readonly headroomBytes?: number;
  /** The anti-thrash age, 10 s when absent. */
  readonly minAgeMs?: number;
  /** 2 when absent. As many again are taken in hand to make room for them. */
  readonly loadConcurrency?: number;
  /** 4 when absent. */
  readonly unloadConcurrency?: number;
  /** 2 s when absent. */
  readonly withdrawTimeoutMs?: number;
  /** 10,000 when absent. */
  readonly maxQueued?: number;
  /** Failed copies remembered, 1,000 when absent. */
  readonly maxFailed?: number;
}

export interface HoldingGauges {
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly reservedBytes: number;
  readonly queued: number;
  readonly loading: number;
  readonly ready: number;
  readonly oldestIdleMs: number;
  readonly evictions: number;
  readonly loads: number;
  readonly loadFailures: number;
}

export interface Holding {
  step(event: HoldingEvent, nowMs: number): readonly HoldingEffect[];
  /** When a tick has something to do; undefined when only events can. */
  nextDueMs(): number | undefined;
  /** Every copy there is, for a snapshot. */
  views(): readonly CopyView[];
  view(key: string): CopyView | undefined;
  gauges(nowMs: number): HoldingGauges;
}

interface Copy extends CopyName {
  readonly key: string;
  readonly serverName: string;
  state: "loading" | "ready" | "leaving" | "failed";
  /** Reserved while it loads, measured afterwards. */
  sizeBytes: number;
  lastUsedMs: number;
  failure: CopyFailure | undefined;
  /** What its size was predicted from; absent when it was adopted. */
  readonly facts: SizeFacts | undefined;
  userWaits: boolean;
}

const maxParked = 100;
const maxProbing = 16;
const parkedRetryMs = 100;

export function createHolding(options: HoldingOptions): Holding {
  return new PodHolding(options);
}

class PodHolding implements Holding {
  readonly #options: Required<HoldingOptions>;
  readonly #copies = new Map<string, Copy>();
  readonly #failed = new Set<string>();
  /** Who has a name on the model server: a loading, ready or leaving copy. */
  readonly #names = new Map<string, Copy>();
  readonly #gateways = new Set<string>();
  /** The ready copies. */
  readonly #lru = createLru<string>();
  readonly #asks;
  readonly #departures;
  readonly #sizes = createSizes();
  /** May outlive the ask that wanted it, so its number is bounded by itself. */
  readonly #probing = new Set<string>();
  #usedBytes = 0;
  #leavingBytes = 0;
  #reservedBytes = 0;
  #loading = 0;
  #up = false;
  #stopping = false;
  #parkedUntilMs = 0;
  #sequence = 0;
  #evictions = 0;
  #loads = 0;
  #loadFailures = 0;
  // What one step gathers.
  #effects: HoldingEffect[] = [];
  #changed = new Map<string, CopyName>();
  #leaving: string[] = [];
  #told: { readonly gatewayId: string; readonly key: string }[] = [];

  constructor(options: HoldingOptions) {
    if (!Number.isSafeInteger(options.capacityBytes) || options.capacityBytes < 1)
      throw new RangeError("not a capacity in bytes");
    this.#options = {
      headroomBytes: 0,
      minAgeMs: 10_000,
      loadConcurrency: 2,
      unloadConcurrency: 4,
      withdrawTimeoutMs: 2_000,
      maxQueued: 10_000,
      maxFailed: 1_000,
      ...options,
    };
    this.#asks = createAsks({ maxQueued: this.#options.maxQueued, maxParked, agedAfterMs: 5_000, agedTurnEvery: 4 });
    this.#departures = createDepartures(this.#options);
  }

  step(event: HoldingEvent, nowMs: number): readonly HoldingEffect[] {
    for (const ask of this.#asks.expire(nowMs)) this.#refuse(ask, "deadline", "it waited in the queue until its deadline");
    this.#handle(event, nowMs);
    this.#makeRoom(nowMs);
    this.#publish(nowMs);
    for (const key of this.#departures.takeDue(nowMs)) {
      const copy = this.#copies.get(key);
      if (copy !== undefined) this.#effects.push({ kind: "unload", key, serverName: copy.serverName });
    }
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #handle(event: HoldingEvent, nowMs: number): void {
    switch (event.kind) {
      case "gateway-attached":
        return this.#attach(event.gatewayId);
      case "gateway-detached":
        this.#gateways.delete(event.gatewayId);
        this.#departures.detached(event.gatewayId);
        for (const key of this.#asks.keysOf(event.gatewayId)) this.#cancel(key, event.gatewayId);
        return undefined;
      case "load-asked":
        return this.#ask(event, nowMs);
      case "load-cancelled":
        return this.#cancel(event.key, event.gatewayId);
      case "withdraw-acked":
        return this.#departures.acked(event.gatewayId, event.sequence);
      case "used":
        for (const { key, idleMs } of event.uses) this.#touch(key, nowMs - idleMs);
        return undefined;
      case "probed": {
        this.#probing.delete(event.key);
        const ask = this.#asks.get(event.key);
        if (ask !== undefined) ask.artefactBytes = event.artefactBytes;
        return undefined;
      }
      case "probe-failed": {
        this.#probing.delete(event.key);
        const ask = this.#asks.get(event.key);
        if (ask === undefined) return undefined;
        this.#asks.remove(ask.key);
        this.#loadFailures += 1;
        // What is leaving under this name says `gone` in its time; the failure would be lost behind it.
        if (this.#copies.has(ask.key)) return this.#refuse(ask, "no-room", event.reason);
        return this.#fail({ ...newCopy(ask), state: "failed" }, "queued", event.failure, event.reason);
      }
      case "loaded":
        return this.#loaded(event.key, event.sizeBytes, nowMs);
      case "load-failed":
        return this.#loadFailed(event.key, event.failure, event.reason);
      case "unloaded": {
        this.#departures.unloaded(event.key);
        const copy = this.#copies.get(event.key);
        return copy?.state === "leaving" ? this.#drop(copy) : undefined;
      }
      case "unload-failed":
        return this.#departures.unloadFailed(event.key, nowMs);
      case "server-up":
        this.#up = true;
        for (const held of event.held) this.#adopt(held, nowMs);
        return undefined;
      case "server-lost":
        return this.#lose();
      case "copy-missing": {
        const copy = this.#copies.get(event.key);
        return copy?.state === "ready" ? this.#drop(copy) : undefined;
      }
      case "stopping":
        this.#stopping = true;
        for (const ask of Array.from(this.#asks.values())) this.#refuse(ask, "stopping", "the pod is stopping");
        return undefined;
      case "tick":
        return undefined;
    }
  }

  #attach(gatewayId: string): void {
    this.#gateways.add(gatewayId);
    const withdrawals = this.#departures.attached(gatewayId);
    if (withdrawals.length === 0) return;
    const changes = withdrawals.flatMap(({ keys }) => keys).flatMap((key) => this.view(key) ?? []);
    this.#effects.push({ kind: "tell", gatewayId, changes, withdrawals: withdrawals.map(({ sequence }) => sequence) });
  }

  #ask(event: Extract<HoldingEvent, { kind: "load-asked" }>, nowMs: number): void {
    const { gatewayId, model, revision, serverName, loadClass } = event;
    const key = copyKey({ model, revision: revision.id });
    const refuse = (why: RefusalWhy, reason: string): void => {
      this.#effects.push({ kind: "refuse", gatewayId, model, revision: revision.id, why, reason });
    };
    const userWaits = loadClass === "waiting-user";
    const lastUsedMs = nowMs - (userWaits ? 0 : event.idleMs);
    this.#told.push({ gatewayId, key });
    const copy = this.#copies.get(key);
    if (copy?.state === "ready") return void this.#touch(key, lastUsedMs);
    if (copy?.state === "loading") {
      copy.lastUsedMs = Math.max(copy.lastUsedMs, lastUsedMs);
      copy.userWaits ||= userWaits;
      return undefined;
    }
    if (this.#stopping) return refuse("stopping", "the pod is stopping");
    const facts = { key, format: revision.format, sizeHintBytes: revision.sizeHintBytes, artefactBytes: undefined };
    const neededBytes = this.#sizes.predict(facts) ?? 0;
    if (neededBytes > this.#options.capacityBytes) return refuse("no-room", this.#neverFits(neededBytes));
    const deadlineMs = nowMs + event.waitMs;
    const ask = { gatewayId, key, model, revision, serverName, loadClass, deadlineMs, lastUsedMs };
    const added = this.#asks.add(ask, nowMs);
    if (added.kind === "queue-full") return refuse("queue-full", `${this.#asks.size} loads are waiting already`);
    if (added.kind === "too-late") return refuse("deadline", "its deadline has passed already");
    if (added.kind === "joined") return undefined;
    if ("dropped" in added) this.#refuse(added.dropped, "queue-full", "more urgent loads took its place in a full queue");
    if (copy?.state === "failed") this.#forget(copy);
    // Until what is leaving under this name is gone, that is what gateways see.
    else if (copy !== undefined) return undefined;
    return this.#move({ model, revision: revision.id, slot: revision.slot }, copy === undefined ? "gone" : "failed", "queued");
  }

  #cancel(key: string, gatewayId: string): void {
    const ask = this.#asks.get(key);
    if (ask !== undefined && this.#asks.leave(key, gatewayId) && !this.#copies.has(key))
      this.#move(nameOf(ask), "queued", "gone");
  }

  /** Lets go of an ask and tells each gateway behind it why. */
  #refuse(ask: Ask, why: RefusalWhy, reason: string): void {
    this.#asks.remove(ask.key);
    const { model, revision } = ask;
    for (const gatewayId of ask.gateways) {
      this.#effects.push({ kind: "refuse", gatewayId, model, revision: revision.id, why, reason });
    }
    if (!this.#copies.has(ask.key)) this.#move(nameOf(ask), "queued", "gone");
  }

  #loaded(key: string, sizeBytes: number, nowMs: number): void {
    const copy = this.#copies.get(key);
    if (copy?.state !== "loading") return;
    this.#loading -= 1;
    this.#reservedBytes -= copy.sizeBytes;
    // A copy without size could never be evicted.
    const measuredBytes = Math.max(1, Math.round(sizeBytes));
    if (copy.facts !== undefined) this.#sizes.learn(copy.facts, measuredBytes);
    this.#loads += 1;
    copy.sizeBytes = measuredBytes;
    if (copy.userWaits) copy.lastUsedMs = nowMs;
    this.#becomeReady(copy, "loading");
  }

  #loadFailed(key: string, failure: CopyFailure["kind"], reason: string): void {
    const copy = this.#copies.get(key);
    if (copy?.state !== "loading") return;
    this.#loading -= 1;
    this.#reservedBytes -= copy.sizeBytes;
    this.#names.delete(copy.serverName);
    this.#loadFailures += 1;
    this.#fail(copy, "loading", failure, reason);
  }

  #fail(copy: Copy, from: CopyState, kind: CopyFailure["kind"], reason: string): void {
    copy.state = "failed";
    copy.sizeBytes = 0;
    copy.failure = { kind, reason: reason.slice(0, maxReasonLength).toWellFormed() };
    this.#copies.set(copy.key, copy);
    this.#failed.add(copy.key);
    this.#move(copy, from, "failed");
    for (const oldest of this.#failed) {
      if (this.#failed.size <= this.#options.maxFailed) break;
      const forgotten = this.#copies.get(oldest);
      if (forgotten === undefined) continue;
      this.#forget(forgotten);
      this.#move(forgotten, "failed", "gone");
    }
  }

  #forget(copy: Copy): void {
    this.#failed.delete(copy.key);
    this.#copies.delete(copy.key);
  }

  #adopt(held: HeldCopy, nowMs: number): void {
    const key = copyKey(held);
    const known = this.#copies.get(key);
    // A load under way will say itself how it ended.
    if ((known !== undefined && known.state !== "failed") || this.#names.has(held.serverName)) return;
    const ask = this.#asks.get(key);
    if (known !== undefined) this.#forget(known);
    this.#asks.remove(key);
    const { model, revision, slot, serverName } = held;
    const lastUsedMs = ask?.lastUsedMs ?? nowMs - this.#options.minAgeMs;
    const sizeBytes = Math.max(1, Math.round(held.sizeBytes));
    const from = ask !== undefined ? "queued" : (known?.state ?? "gone");
    this.#becomeReady(
      {
        key,
        model,
        revision,
        slot,
        serverName,
        state: "ready",
        sizeBytes,
        lastUsedMs,
        failure: undefined,
        facts: undefined,
        userWaits: false,
      },
      from,
    );
  }

  #becomeReady(copy: Copy, from: CopyState): void {
    copy.state = "ready";
    this.#usedBytes += copy.sizeBytes;
    this.#copies.set(copy.key, copy);
    this.#names.set(copy.serverName, copy);
    this.#lru.set(copy.key, { lastUsedMs: copy.lastUsedMs, sizeBytes: copy.sizeBytes });
    this.#move(copy, from, "ready");
  }

  /** All copies went with the model server. A load under way is told of by whoever performs it. */
  #lose(): void {
    this.#up = false;
    this.#departures.clear();
    for (const copy of Array.from(this.#copies.values())) {
      if (copy.state === "ready" || copy.state === "leaving") this.#drop(copy);
    }
  }

  #leave(key: string): void {
    const copy = this.#copies.get(key);
    if (copy?.state !== "ready") return;
    this.#lru.delete(key);
    copy.state = "leaving";
    this.#leavingBytes += copy.sizeBytes;
    this.#evictions += 1;
    this.#leaving.push(key);
    this.#move(copy, "ready", "leaving");
  }

  /** A ready or leaving copy is not there any more. */
  #drop(copy: Copy): void {
    const from = copy.state;
    this.#usedBytes -= copy.sizeBytes;
    if (from === "leaving") this.#leavingBytes -= copy.sizeBytes;
    this.#lru.delete(copy.key);
    this.#names.delete(copy.serverName);
    this.#copies.delete(copy.key);
    this.#move(copy, from, "gone");
    if (this.#asks.get(copy.key) !== undefined) this.#move(copy, "gone", "queued");
  }

  #touch(key: string, lastUsedMs: number): void {
    const copy = this.#copies.get(key);
    if (copy?.state !== "ready" || !Number.isFinite(lastUsedMs) || lastUsedMs <= copy.lastUsedMs) return;
    copy.lastUsedMs = lastUsedMs;
    this.#lru.touch(key, lastUsedMs);
  }

  /** Starts the loads that there is room for, and makes room for those in hand. */
  #makeRoom(nowMs: number): void {
    if (!this.#up) return;
    const { capacityBytes, headroomBytes, loadConcurrency } = this.#options;
    const overBytes = this.#usedBytes + this.#reservedBytes - this.#leavingBytes - capacityBytes;
    if (overBytes > 0) this.#evict(overBytes, 0, nowMs, true);
    if (this.#asks.parked > 0 && nowMs >= this.#parkedUntilMs) this.#asks.unpark();
    let inHand = this.#asks.hand().length;
    while (inHand + this.#loading < 2 * loadConcurrency && this.#asks.take(nowMs) !== undefined) inHand += 1;

    let freeBytes = capacityBytes - this.#usedBytes - this.#reservedBytes;
    let comingBytes = this.#leavingBytes;
    for (const ask of this.#asks.hand()) {
      const neededBytes = this.#needed(ask);
      if (neededBytes === undefined) continue;
      if (neededBytes > capacityBytes) {
        this.#refuse(ask, "no-room", this.#neverFits(neededBytes));
        continue;
      }
      const holder = this.#names.get(ask.serverName);
      if (holder?.state === "ready") {
        // Another revision in the same slot, which is free again: it is wanted no more.
        this.#leave(holder.key);
        comingBytes += holder.sizeBytes;
      }
      if (neededBytes > freeBytes + comingBytes) {
        const evicted = this.#evict(neededBytes, freeBytes + comingBytes, nowMs, ask.loadClass === "waiting-user");
        // Nothing behind it may take its room.
        if (evicted === "not-enough") break;
        if (evicted === "too-young") {
          this.#park(ask, nowMs);
          continue;
        }
        comingBytes += evicted;
      }
      if (holder === undefined && neededBytes <= freeBytes && this.#loading < loadConcurrency) {
        this.#start(ask, neededBytes);
        freeBytes -= neededBytes;
      } else {
        const fromFree = Math.min(freeBytes, neededBytes);
        freeBytes -= fromFree;
        comingBytes -= neededBytes - fromFree;
      }
    }
    if (headroomBytes > freeBytes + comingBytes) this.#evict(headroomBytes, freeBytes + comingBytes, nowMs, true);
  }

  #needed(ask: Ask): number | undefined {
    const neededBytes = this.#sizes.predict(factsOf(ask));
    if (neededBytes === undefined && !this.#probing.has(ask.key) && this.#probing.size < maxProbing) {
      this.#probing.add(ask.key);
      this.#effects.push({ kind: "probe", key: ask.key, storageUri: ask.revision.storageUri });
    }
    return neededBytes;
  }

  /** The bytes that will be free in time, or why there are none. */
  #evict(neededBytes: number, freeBytes: number, nowMs: number, waitingUser: boolean): number | "too-young" | "not-enough" {
    const { minAgeMs } = this.#options;
    const chosen = chooseVictims({ neededBytes, freeBytes, candidates: this.#candidates(), nowMs, minAgeMs, waitingUser });
    if (chosen.kind === "no-room") return chosen.why;
    for (const victim of chosen.victims) this.#leave(victim.key);
    return chosen.freedBytes;
  }

  *#candidates(): Generator<EvictionCandidate<string>, void> {
    for (const entry of this.#lru.fromOldest()) yield { ...entry, pinned: false };
  }

  #park(ask: Ask, nowMs: number): void {
    this.#parkedUntilMs = nowMs + parkedRetryMs;
    if (!this.#asks.park(ask)) this.#refuse(ask, "no-room", "every copy was used too recently to make room for it");
  }

  #start(ask: Ask, reservedBytes: number): void {
    const { key, serverName, revision } = ask;
    this.#asks.remove(key);
    const copy = newCopy(ask);
    copy.sizeBytes = reservedBytes;
    this.#reservedBytes += reservedBytes;
    this.#loading += 1;
    this.#copies.set(key, copy);
    this.#names.set(serverName, copy);
    this.#move(copy, "queued", "loading");
    this.#effects.push({ kind: "load", key, serverName, revision, reservedBytes });
  }

  #neverFits(neededBytes: number): string {
    return `it takes ${neededBytes} bytes, and the whole pod has ${this.#options.capacityBytes}`;
  }

  #move(copy: CopyName, from: CopyState, to: CopyState): void {
    assertArrow(from, to);
    const { model, revision, slot } = copy;
    this.#changed.set(copyKey(copy), { model, revision, slot });
  }

  #publish(nowMs: number): void {
    const leaving = new Set(this.#leaving.filter((key) => this.#copies.get(key)?.state === "leaving"));
    const told = this.#told.filter(({ key }) => !this.#changed.has(key) && !leaving.has(key));
    const changes = Array.from(this.#changed).flatMap(([key, name]) =>
      leaving.has(key) ? [] : [this.view(key) ?? goneView(name)],
    );
    if (changes.length > 0) {
      this.#effects.push({ kind: "publish", sequence: ++this.#sequence, changes, withdraw: false });
    }
    if (leaving.size > 0) {
      const keys = [...leaving];
      const sequence = ++this.#sequence;
      this.#effects.push({ kind: "publish", sequence, changes: keys.flatMap((key) => this.view(key) ?? []), withdraw: true });
      this.#departures.begin({ sequence, keys }, this.#gateways, nowMs);
    }
    for (const { gatewayId, key } of told) {
      const view = this.view(key);
      if (view !== undefined) this.#effects.push({ kind: "tell", gatewayId, changes: [view], withdrawals: [] });
    }
    this.#changed.clear();
    this.#leaving = [];
    this.#told = [];
  }

  nextDueMs(): number | undefined {
    const times = [
      this.#asks.nextDueMs(),
      this.#departures.nextDueMs(),
      this.#up && this.#asks.parked > 0 ? this.#parkedUntilMs : undefined,
    ];
    const known = times.filter((timeMs) => timeMs !== undefined);
    return known.length === 0 ? undefined : Math.min(...known);
  }

  views(): readonly CopyView[] {
    const queued = Array.from(this.#asks.values()).filter((ask) => !this.#copies.has(ask.key));
    return [...Array.from(this.#copies.values(), viewOf), ...queued.map(queuedView)];
  }

  view(key: string): CopyView | undefined {
    const copy = this.#copies.get(key);
    if (copy !== undefined) return viewOf(copy);
    const ask = this.#asks.get(key);
    return ask === undefined ? undefined : queuedView(ask);
  }

  gauges(nowMs: number): HoldingGauges {
    const oldest = this.#lru.oldest();
    return {
      capacityBytes: this.#options.capacityBytes,
      usedBytes: this.#usedBytes,
      reservedBytes: this.#reservedBytes,
      queued: this.#asks.size,
      loading: this.#loading,
      ready: this.#lru.size,
      oldestIdleMs: oldest === undefined ? 0 : Math.max(0, nowMs - oldest.lastUsedMs),
      evictions: this.#evictions,
      loads: this.#loads,
      loadFailures: this.#loadFailures,
    };
  }
}

function nameOf(ask: Ask): CopyName {
  return { model: ask.model, revision: ask.revision.id, slot: ask.revision.slot };
}

function factsOf(ask: Ask): SizeFacts {
  const { key, revision, artefactBytes } = ask;
  return { key, format: revision.format, sizeHintBytes: revision.sizeHintBytes, artefactBytes };
}

function newCopy(ask: Ask): Copy {
  return {
    ...nameOf(ask),
    key: ask.key,
    serverName: ask.serverName,
    state: "loading",
    sizeBytes: 0,
    lastUsedMs: ask.lastUsedMs,
    failure: undefined,
    facts: factsOf(ask),
    userWaits: ask.loadClass === "waiting-user",
  };
}

function viewOf(copy: Copy): CopyView {
  const { model, revision, slot, state, sizeBytes, lastUsedMs, failure } = copy;
  return { model, revision, slot, state, sizeBytes, lastUsedMs, ...(failure === undefined ? {} : { failure }) };
}

function queuedView(ask: Ask): CopyView {
  return { ...nameOf(ask), state: "queued", sizeBytes: 0, lastUsedMs: ask.lastUsedMs };
}

function goneView(name: CopyName): CopyView {
  return { ...name, state: "gone", sizeBytes: 0, lastUsedMs: 0 };
}
