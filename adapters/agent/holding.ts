// Owns the holding of one pod: the only writer of its copies. A deterministic machine without IO: events and the time go
// in, effects come out, in the order in which they must be performed. copies.ts draws the states, ledger.ts keeps the
// copies and their bytes, weights.ts what they take, intake.ts what an ask meets, asks.ts its way to the start of a load,
// room.ts makes room, pulls.ts owns a load's way into the model server, departures.ts the way from `leaving` to unloaded.
//
// Invariants:
// - A copy asked for while it is leaving goes its way to the end and is queued again behind it: gateways may have taken
//   its route away already, so turning back would need as many messages as loading again.
// - Every ask ends: its copy becomes ready or failed, or it is refused, or nobody asks any longer.
import { noHeat, warmUp } from "#core/heat.ts";
import { type Ask, createAsks } from "./asks.ts";
import { type CopyView, copyKey } from "./copies.ts";
import { createDepartures } from "./departures.ts";
import { createDrain } from "./drain.ts";
import type { HeldCopy, HoldingEffect, HoldingEvent } from "./events.ts";
import { buildGauges, type HoldingGauges } from "./gauges.ts";
import { createIntake } from "./intake.ts";
import { Ledger, viewOf } from "./ledger.ts";
import { createProbes } from "./probes.ts";
import { createPublication } from "./publication.ts";
import { createPulls } from "./pulls.ts";
import { createRoom } from "./room.ts";
import { createServerState } from "./serverstate.ts";
import { newCopyOf, queuedView } from "./views.ts";
import { createWeights } from "./weights.ts";

export interface HoldingOptions {
  readonly capacityBytes: number;
  /** What the whole model server may take; the capacity alone counts when absent. */
  readonly memoryLimitBytes?: number | undefined;
  /** What the model server says of capacity and loads at a time counts, and does not only bound what is said here. */
  readonly serverLimits?: boolean | undefined;
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
  /** How long loads wait for a model server that died before they go elsewhere; 2 s when absent. */
  readonly deadPatienceMs?: number;
  /** 10,000 when absent. */
  readonly maxQueued?: number;
  /** Failed copies remembered, 1,000 when absent. */
  readonly maxFailed?: number;
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

const maxParked = 100;
/** A pod that is emptied lets go at once of what was not used for so long. */
const worthMovingMs = 3_600_000;
const maxProbing = 16;
/** What is looked up, or fetched, and stands still: so many others may start instead. */
const maxStalled = 16;

export function createHolding(options: HoldingOptions): Holding {
  return new PodHolding(options);
}

class PodHolding implements Holding {
  readonly #options: Required<Omit<HoldingOptions, "memoryLimitBytes" | "serverLimits">> &
    Pick<HoldingOptions, "memoryLimitBytes" | "serverLimits">;
  readonly #gateways = new Set<string>();
  readonly #ledger;
  readonly #asks;
  readonly #departures;
  readonly #room;
  readonly #weights;
  readonly #intake;
  readonly #pulls = createPulls(maxStalled);
  readonly #probes = createProbes(maxProbing);
  readonly #server;
  #stopping = false;
  readonly #drain = createDrain();
  readonly #publication = createPublication();
  #heat = noHeat;
  #evictions = 0;
  #loads = 0;
  #loadFailures = 0;
  // What one step gathers.
  #nowMs = 0;
  #effects: HoldingEffect[] = [];

  constructor(options: HoldingOptions) {
    if (!Number.isSafeInteger(options.capacityBytes) || options.capacityBytes < 1)
      throw new RangeError("not a capacity in bytes");
    this.#options = {
      headroomBytes: 0,
      minAgeMs: 10_000,
      loadConcurrency: 2,
      unloadConcurrency: 4,
      withdrawTimeoutMs: 2_000,
      deadPatienceMs: 2_000,
      maxQueued: 10_000,
      maxFailed: 1_000,
      ...options,
    };
    this.#ledger = new Ledger(this.#options);
    this.#weights = createWeights(this.#ledger, this.#options);
    this.#server = createServerState(this.#options.deadPatienceMs);
    this.#asks = createAsks({ maxQueued: this.#options.maxQueued, maxParked, agedAfterMs: 5_000, agedTurnEvery: 4 });
    this.#departures = createDepartures(this.#options);
    this.#intake = createIntake({
      ledger: this.#ledger,
      asks: this.#asks,
      weights: this.#weights,
      publication: this.#publication,
      emit: (effect) => void this.#effects.push(effect),
      closed: (nowMs) => this.#closed(nowMs),
    });
    this.#room = createRoom(this.#ledger, this.#asks, this.#options, {
      allowance: this.#weights.allowance,
      neededBytes: (ask, nowMs) => this.#weights.neededBytes(ask, nowMs),
      loading: () => this.#ledger.loading - this.#pulls.stalled,
      stalledProbes: (nowMs) => this.#probes.stalled(nowMs),
      probe: (ask) => this.#probe(ask),
      leave: (key, by) => this.#leave(key, by?.traceparent),
      start: (ask, reservedBytes) => this.#start(ask, reservedBytes, this.#nowMs),
      refuse: (ask, reason, why = "no-room") => this.#intake.refuse(ask, why, reason),
    });
  }

  step(event: HoldingEvent, nowMs: number): readonly HoldingEffect[] {
    this.#nowMs = nowMs;
    for (const ask of this.#asks.expire(nowMs)) this.#intake.refuse(ask, "deadline", "it waited in the queue until its deadline");
    this.#handle(event, nowMs);
    const away = this.#server.away(nowMs);
    if (away !== undefined) this.#intake.refuseAll("stopping", away);
    if (this.#server.up) this.#room.make(nowMs);
    for (const key of this.#pulls.admit(this.#weights.allowance.loadConcurrency)) this.#effects.push({ kind: "admit", key });
    this.#publish(nowMs);
    for (const key of this.#departures.takeDue(nowMs)) {
      const copy = this.#ledger.get(key);
      if (copy !== undefined) this.#effects.push({ kind: "unload", key, serverName: copy.serverName });
    }
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #handle(event: HoldingEvent, nowMs: number): void {
    switch (event.kind) {
      case "gateway-attached":
        return this.#attach(event.gatewayId, nowMs);
      case "gateway-detached":
        this.#gateways.delete(event.gatewayId);
        this.#departures.detached(event.gatewayId);
        for (const key of this.#asks.keysOf(event.gatewayId)) this.#intake.cancel(key, event.gatewayId);
        return undefined;
      case "load-asked":
        return this.#intake.ask(event, nowMs);
      case "load-cancelled":
        return this.#intake.cancel(event.key, event.gatewayId);
      case "withdraw-acked":
        return this.#departures.acked(event.gatewayId, event.sequence);
      case "used":
        for (const { key, idleMs, requests } of event.uses) {
          if (this.#ledger.used(key, nowMs - idleMs, requests, nowMs)) this.#heat = warmUp(this.#heat, requests, nowMs);
        }
        return undefined;
      case "probed": {
        this.#probes.end(event.key);
        const ask = this.#asks.get(event.key);
        if (ask !== undefined) Object.assign(ask, { artefactBytes: event.artefactBytes, predictedBytes: event.predictedBytes });
        return undefined;
      }
      case "probe-failed": {
        this.#probes.end(event.key);
        const ask = this.#asks.get(event.key);
        if (ask === undefined) return undefined;
        this.#asks.remove(ask.key);
        this.#loadFailures += 1;
        // What is leaving under this name says `gone` in its time; the failure would be lost behind it.
        if (this.#ledger.has(ask.key)) return this.#intake.refuse(ask, "no-room", event.reason);
        return this.#ledger.failQueued(newCopyOf(ask), { kind: event.failure, reason: event.reason });
      }
      case "pull-stalled":
        return this.#pulls.stall(event.key, event.stalled);
      case "pulled":
        return this.#pulls.pulled(event.key);
      case "loaded":
        return this.#loaded(event, nowMs);
      case "load-failed":
        return this.#loadFailed(event, nowMs);
      case "unloaded": {
        this.#departures.unloaded(event.key);
        const copy = this.#ledger.get(event.key);
        return copy?.state === "leaving" ? this.#ledger.drop(copy) : undefined;
      }
      case "unload-failed":
        return this.#departures.unloadFailed(event.key, nowMs);
      case "server-up":
      case "copies-found":
        if (event.kind === "server-up") {
          this.#server.came();
          this.#weights.told(event.limits ?? {});
        }
        for (const held of event.held) this.#adopt(held, nowMs);
        return undefined;
      case "server-lost":
        return this.#lose(event.silent === true, nowMs);
      case "memory-seen":
        return this.#weights.seen(event.bytes);
      case "copy-missing": {
        const copy = this.#ledger.get(event.key);
        return copy?.state === "ready" ? this.#ledger.drop(copy) : undefined;
      }
      case "dropped": {
        const ask = this.#asks.get(event.key);
        if (ask !== undefined) this.#intake.refuse(ask, "stopping", "the copy is wanted no more");
        return this.#ledger.get(event.key)?.state === "ready" ? this.#leave(event.key) : undefined;
      }
      case "owned":
        return this.#ledger.own(event.owners);
      case "trimmed":
        return this.#room.trim(event.tenant, event.bytes, nowMs);
      case "drain-started":
        return this.#startDrain(event.patienceMs, nowMs);
      case "drain-ended":
        for (const copy of this.#ledger.all()) this.#leave(copy.key);
        return undefined;
      case "stopping":
        this.#stopping = true;
        return this.#intake.refuseAll("stopping", "the pod is stopping");
      case "tick":
        return undefined;
    }
  }

  #attach(gatewayId: string, nowMs: number): void {
    this.#gateways.add(gatewayId);
    // The others take it as the list that they have.
    if (this.#drain.active) this.#effects.push(this.#drain.effect(this.#ledger.all(), nowMs));
    const withdrawals = this.#departures.attached(gatewayId);
    if (withdrawals.length === 0) return;
    const changes = withdrawals.flatMap(({ keys }) => keys).flatMap((key) => this.view(key) ?? []);
    this.#effects.push({ kind: "tell", gatewayId, changes, withdrawals: withdrawals.map(({ sequence }) => sequence) });
  }

  #loaded(event: Extract<HoldingEvent, { kind: "loaded" }>, nowMs: number): void {
    this.#pulls.end(event.key);
    const copy = this.#ledger.get(event.key);
    if (copy?.state !== "loading") return;
    this.#loads += 1;
    this.#weights.loaded(copy, event, copy.userWaits ? nowMs : copy.lastUsedMs);
  }

  #loadFailed({ key, failure, reason, suspects }: Extract<HoldingEvent, { kind: "load-failed" }>, nowMs: number): void {
    this.#pulls.end(key);
    const copy = this.#ledger.get(key);
    if (copy?.state !== "loading") return;
    this.#loadFailures += 1;
    if (failure === "capacity") this.#weights.tooLittle(copy, suspects, nowMs);
    this.#ledger.loadFailed(copy, { kind: failure, reason, suspects: failure === "server-died" ? suspects : undefined });
  }

  #closed(nowMs: number): string | undefined {
    if (this.#stopping) return "the pod is stopping";
    return this.#drain.active ? "the pod is being emptied" : this.#server.away(nowMs);
  }

  /** Everything serves on; what was not used for long is not worth another place. */
  #startDrain(patienceMs: number, nowMs: number): void {
    if (this.#drain.active) return;
    this.#drain.begin(patienceMs, nowMs);
    this.#intake.refuseAll("stopping", "the pod is being emptied");
    for (const copy of this.#ledger.all()) {
      if (copy.state === "ready" && nowMs - copy.lastUsedMs > worthMovingMs) this.#leave(copy.key);
    }
    this.#effects.push(this.#drain.effect(this.#ledger.all(), nowMs));
  }

  #adopt(held: HeldCopy, nowMs: number): void {
    const key = copyKey(held);
    const known = this.#ledger.get(key);
    // A load under way will say itself how it ended.
    if ((known !== undefined && known.state !== "failed") || this.#ledger.holderOf(held.serverName) !== undefined) return;
    const ask = this.#asks.get(key);
    if (known !== undefined) this.#ledger.forget(known);
    this.#asks.remove(key);
    const { model, revision, slot, serverName } = held;
    const lastUsedMs = ask?.lastUsedMs ?? nowMs - this.#options.minAgeMs;
    const from = ask !== undefined ? "queued" : (known?.state ?? "gone");
    this.#ledger.adopt(
      {
        key,
        model,
        revision,
        slot,
        serverName,
        lastUsedMs,
        facts: undefined,
        userWaits: false,
        pinned: ask?.pinned ?? false,
        tenant: ask?.tenant,
      },
      from,
      Math.max(1, Math.round(held.sizeBytes)),
    );
  }

  /** All copies went with the model server. A load under way is told of by whoever performs it. */
  #lose(silent: boolean, nowMs: number): void {
    this.#server.lost(silent, nowMs);
    this.#weights.lost();
    this.#departures.clear();
    for (const copy of this.#ledger.all()) {
      if (copy.state === "ready" || copy.state === "leaving") this.#ledger.drop(copy);
    }
  }

  #leave(key: string, traceparent?: string): void {
    const copy = this.#ledger.get(key);
    if (copy?.state !== "ready") return;
    this.#ledger.leave(copy);
    this.#evictions += 1;
    this.#publication.leaves(key, traceparent);
  }

  #probe({ key, serverName, revision }: Ask): void {
    if (!this.#probes.begin(key, this.#nowMs)) return;
    this.#effects.push({ kind: "probe", key, serverName, revision });
  }

  #start(ask: Ask, reservedBytes: number, nowMs: number): void {
    const { key, serverName, revision, loadClass, traceparent } = ask;
    this.#asks.remove(key);
    this.#ledger.load(newCopyOf(ask), reservedBytes);
    this.#pulls.begin(key, loadClass);
    const queuedMs = Math.max(0, nowMs - ask.askedMs);
    this.#effects.push({ kind: "load", key, serverName, revision, reservedBytes, loadClass, queuedMs, traceparent });
  }

  #publish(nowMs: number): void {
    const { effects, withdrawal } = this.#publication.take(this.#ledger.takeChanged(), (key) => this.view(key));
    this.#effects.push(...effects);
    if (withdrawal !== undefined) this.#departures.begin(withdrawal, this.#gateways, nowMs);
  }

  nextDueMs(): number | undefined {
    const times = [
      this.#asks.nextDueMs(),
      this.#departures.nextDueMs(),
      this.#server.up ? this.#room.nextDueMs() : undefined,
      this.#server.up && this.#asks.size > 0 ? this.#probes.nextStallMs(this.#nowMs) : undefined,
      this.#asks.size > 0 ? this.#server.awayAtMs() : undefined,
    ];
    const known = times.filter((timeMs) => timeMs !== undefined);
    return known.length === 0 ? undefined : Math.min(...known);
  }

  views(): readonly CopyView[] {
    const queued = Array.from(this.#asks.values()).filter((ask) => !this.#ledger.has(ask.key));
    return [...this.#ledger.all().map(viewOf), ...queued.map(queuedView)];
  }

  view(key: string): CopyView | undefined {
    const copy = this.#ledger.get(key);
    if (copy !== undefined) return viewOf(copy);
    const ask = this.#asks.get(key);
    return ask === undefined ? undefined : queuedView(ask);
  }

  gauges(nowMs: number): HoldingGauges {
    const counts = {
      capacityBytes: this.#weights.allowance.capacityBytes,
      evictions: this.#evictions,
      loads: this.#loads,
      loadFailures: this.#loadFailures,
      draining: this.#drain.active,
    };
    return buildGauges({ ledger: this.#ledger, asks: this.#asks, heat: this.#heat, counts }, nowMs);
  }
}
