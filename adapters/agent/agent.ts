// Owns the performing of what the holding decides: pulls, loads (loading.ts), unloads, timers; and what the model server tells.
//
//   events --> holding.step --> effects --> pull + driver, or the gateways --> events ...
//
// Invariants: an effect is performed in the order in which it was decided; every call has a deadline; a result that comes
// from before the model server was lost never counts as success. From time to time holding and model server are compared, so
// that neither holds what the other does not know for long.
import { type Clock, sleep } from "#platform/clock.ts";
import { openDeadline } from "#platform/deadline.ts";
import { type Log, withLogKeys } from "#platform/log.ts";
import { logKeysOf } from "#platform/telemetry.ts";
import type { Driver, HeldModel } from "../drivers/driver.ts";
import type { KillMeter } from "../drivers/memory/kills.ts";
import type { Puller } from "../pull/puller.ts";
import { compareHolding, parseHeld, serverNameOf } from "./comparison.ts";
import { type CopyView, copyKey } from "./copies.ts";
import type { HeldCopy, HoldingEffect, HoldingEvent } from "./events.ts";
import type { HoldingGauges } from "./gauges.ts";
import type { Holding } from "./holding.ts";
import { createKeptArtefacts } from "./kept.ts";
import { createLives } from "./lives.ts";
import { createLoader, failedBy } from "./loading.ts";
import type { ProgressOptions } from "./progress.ts";
import { createTurns } from "./turns.ts";
import { type AgentWatch, type DepartureWatch, noWatch } from "./watch.ts";

/** What goes to gateways. */
export type AgentMessage =
  | Extract<HoldingEffect, { readonly kind: "publish" | "tell" | "refuse" | "draining" }>
  /** `losses`: with this one. `died`: it did not only fall silent. */
  | { readonly kind: "server-lost"; readonly losses: number; readonly died: boolean };

export interface Agent {
  post(event: HoldingEvent): void;
  /** Is the copy really there? When it is not, the holding is put right. */
  verify(key: string, signal: AbortSignal): Promise<boolean>;
  views(): readonly CopyView[];
  gauges(): HoldingGauges;
  /** How often its model server was lost. */
  readonly losses: number;
  /** Resolves once the model server has answered for the first time. */
  readonly up: Promise<void>;
  /** Watches over the model server until the signal is aborted, and ends what is under way. Rejects at a fault. */
  run(signal: AbortSignal): Promise<void>;
}

export interface AgentParts {
  readonly holding: Holding;
  readonly driver: Driver;
  /** Tells the model server's deaths for want of memory from others; absent: that cannot be seen. */
  readonly kills?: KillMeter | undefined;
  readonly puller: Puller;
  readonly clock: Clock;
  readonly log: Log;
  /** Nothing is told when absent. */
  readonly watch?: AgentWatch | undefined;
  /** Called in order; must not throw. */
  readonly onMessage: (message: AgentMessage) => void;
  /** Pull and load together, unless the model server says how long; 120 s when absent. */
  readonly loadTimeoutMs?: number;
  /** 30 s when absent. */
  readonly unloadTimeoutMs?: number;
  /** How often holding and model server are compared; 10 s when absent. */
  readonly compareMs?: number;
  /** When a pull counts as one that stands still. */
  readonly progress?: Omit<ProgressOptions, "onStall"> | undefined;
}

const probeTimeoutMs = 10_000;
const verifyTimeoutMs = 1_000;
/** A model server that answers neither requests nor the watch for so long stands still. */
const doubtedSilenceMs = 4_000;
/** The same while it loads a model, which may keep it busy. */
const loadingSilenceMs = 9_000;
const listTimeoutMs = 5_000;
const memoryTimeoutMs = 5_000;

export function createAgent(parts: AgentParts): Agent {
  return new PodAgent(parts);
}

class PodAgent implements Agent {
  readonly #parts: AgentParts;
  readonly #firstUp = Promise.withResolvers<void>();
  readonly #fault = Promise.withResolvers<never>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  readonly #lives = createLives();
  readonly #turns = createTurns((key) => this.post({ kind: "pulled", key }));
  readonly #loader;
  #timer: NodeJS.Timeout | undefined;
  /** By key, of copies that are leaving. */
  readonly #departures = new Map<string, DepartureWatch>();
  readonly #artefacts = createKeptArtefacts();
  /** The one that is being handled, and those that came meanwhile. */
  readonly #events: HoldingEvent[] = [];

  constructor(parts: AgentParts) {
    this.#parts = parts;
    this.#fault.promise.catch(() => undefined);
    const { driver, puller, clock, log, loadTimeoutMs = 120_000 } = parts;
    this.#loader = createLoader({
      driver,
      kills: parts.kills,
      puller,
      clock,
      log,
      watch: this.#watch,
      lives: this.#lives,
      turns: this.#turns,
      onStall: (key, stalled) => this.post({ kind: "pull-stalled", key, stalled }),
      progress: parts.progress,
      artefacts: this.#artefacts,
      stop: this.#stop.signal,
      loadTimeoutMs,
      memoryBytes: () => this.#memoryBytes(),
    });
  }

  get losses(): number {
    return this.#lives.ended;
  }

  get up(): Promise<void> {
    return this.#firstUp.promise;
  }

  post(event: HoldingEvent): void {
    const { holding, clock } = this.#parts;
    this.#events.push(event);
    // Posted by an effect: its own effects come after the ones that are being performed.
    if (this.#events.length > 1) return;
    for (const next of this.#events) {
      for (const effect of holding.step(next, clock.monotonicMs())) this.#perform(effect);
    }
    this.#events.length = 0;
    clearTimeout(this.#timer);
    const dueMs = holding.nextDueMs();
    if (dueMs === undefined || this.#stop.signal.aborted) return;
    // Timers may fire a little early.
    const delayMs = Math.min(2 ** 30, Math.max(1, Math.ceil(dueMs - clock.monotonicMs())));
    this.#timer = setTimeout(() => this.post({ kind: "tick" }), delayMs);
  }

  views(): readonly CopyView[] {
    return this.#parts.holding.views();
  }

  gauges(): HoldingGauges {
    return this.#parts.holding.gauges(this.#parts.clock.monotonicMs());
  }

  async verify(key: string, signal: AbortSignal): Promise<boolean> {
    const { holding, driver, log } = this.#parts;
    const view = holding.view(key);
    if (view?.state !== "ready") return false;
    const life = this.#lives.current;
    const name = serverNameOf(view);
    using deadline = openDeadline(verifyTimeoutMs, signal, this.#stop.signal);
    const ready = await driver.ready(name, view.revision, deadline.signal).catch(() => undefined);
    if (ready === false && life === this.#lives.current && holding.view(key)?.state === "ready") {
      log.warn("the model server does not hold a copy that it should", { model: view.model, revision: view.revision });
      this.#missing(key, name);
    }
    if (ready === undefined && life === this.#lives.current && !signal.aborted) {
      driver.doubt(life.loading.size === 0 ? doubtedSilenceMs : loadingSilenceMs);
    }
    return ready === true;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { driver, log } = this.#parts;
    const ended = AbortSignal.any([signal, this.#stop.signal]);
    this.#spawn(this.#compareOften(ended));
    try {
      const watching = driver.start(
        {
          onUp: (held) => {
            log.info("the model server is up", { models: held.length });
            const limits = driver.limits?.();
            if (limits?.unheeded !== undefined)
              log.warn("the model server asks for what it does not get", { asked: limits.unheeded });
            this.#parts.kills?.prepare();
            this.post({ kind: "server-up", held: held.flatMap((model) => this.#parseHeld(model)), limits });
            this.#firstUp.resolve();
          },
          onLost: (reason, how) => {
            log.warn("the model server is lost", { reason });
            this.#departures.clear();
            this.#parts.kills?.renew();
            const tellOver = this.#lives.end(reason);
            // Before what it held is gone, which gateways look into.
            this.#parts.onMessage({ kind: "server-lost", losses: this.losses, died: how === "died" });
            this.post({ kind: "server-lost", silent: how === "silent" });
            for (const serverName of this.#artefacts.names) this.#spawn(this.#artefacts.release(serverName));
            tellOver();
          },
        },
        ended,
      );
      await Promise.race([watching, this.#fault.promise]);
    } finally {
      this.#stop.abort(new Error("the adapter is stopping"));
      clearTimeout(this.#timer);
      await Promise.allSettled(this.#underWay);
      this.#parts.kills?.renew();
      await Promise.all(this.#artefacts.names.map((serverName) => this.#artefacts.release(serverName)));
    }
  }

  async #compareOften(signal: AbortSignal): Promise<void> {
    const { driver, compareMs = 10_000 } = this.#parts;
    while (!signal.aborted) {
      await sleep(compareMs, signal).catch(() => undefined);
      if (!signal.aborted && driver.alive()) await this.#compare(signal);
      if (!signal.aborted && driver.alive()) await this.#lookAtMemory();
    }
  }

  async #lookAtMemory(): Promise<void> {
    const bytes = await this.#memoryBytes();
    if (bytes !== undefined) this.post({ kind: "memory-seen", bytes });
  }

  /** Undefined as well when the model server is another one by then. */
  async #memoryBytes(): Promise<number | undefined> {
    const life = this.#lives.current;
    using deadline = openDeadline(memoryTimeoutMs, this.#stop.signal, life.signal);
    const bytes = await this.#parts.driver.memoryBytes?.(deadline.signal).catch(() => undefined);
    return life === this.#lives.current && !this.#stop.signal.aborted ? bytes : undefined;
  }

  async #compare(signal: AbortSignal): Promise<void> {
    const { driver, log } = this.#parts;
    const life = this.#lives.current;
    const before = this.views();
    using deadline = openDeadline(listTimeoutMs, signal);
    const listed = await driver.list(deadline.signal).catch(() => undefined);
    if (listed?.kind !== "ok" || life !== this.#lives.current || signal.aborted) return;
    const { missing, strange } = compareHolding(before, this.views(), listed.held);
    for (const view of missing) {
      log.warn("the model server does not hold a copy that it should", { model: view.model, revision: view.revision });
      this.#missing(copyKey(view), serverNameOf(view));
    }
    const found = strange.flatMap((model) => this.#parseHeld(model));
    if (found.length === 0) return;
    log.warn("the model server holds copies that nobody waits for", { copies: found.length });
    this.post({ kind: "copies-found", held: found });
  }

  #parseHeld(model: HeldModel): readonly HeldCopy[] {
    const parsed = parseHeld(model);
    if (parsed === undefined) {
      this.#parts.log.warn("the model server holds what no adapter loaded", { name: model.serverName.slice(0, 100) });
    }
    return parsed === undefined ? [] : [parsed];
  }

  #missing(key: string, serverName: string): void {
    this.post({ kind: "copy-missing", key });
    this.#spawn(this.#artefacts.release(serverName));
  }

  #perform(effect: HoldingEffect): void {
    switch (effect.kind) {
      case "publish":
        if (effect.withdraw) this.#watchLeaving(effect);
        return this.#parts.onMessage(effect);
      case "tell":
        return this.#parts.onMessage(effect);
      case "refuse":
        this.#watch.refused(effect.why);
        return this.#parts.onMessage(effect);
      case "draining":
        return this.#parts.onMessage(effect);
      case "probe":
        return this.#spawn(withLogKeys({}, () => this.#probe(effect)));
      case "load":
        return this.#spawn(withLogKeys(logKeysOf(effect.traceparent), () => this.#load(effect)));
      case "admit":
        return this.#turns.admit(effect.key);
      case "unload":
        return this.#spawn(withLogKeys({}, () => this.#unload(effect)));
    }
  }

  get #watch(): AgentWatch {
    return this.#parts.watch ?? noWatch;
  }

  /** What is forgotten with the model server is never told of as unloaded; another departure of the key takes its place. */
  #watchLeaving({ changes, causes }: Extract<HoldingEffect, { kind: "publish" }>): void {
    const nowMs = this.#parts.clock.monotonicMs();
    for (const view of changes) {
      const key = copyKey(view);
      const { model, revision, sizeBytes } = view;
      const facts = { model, revision, sizeBytes, idleMs: nowMs - view.lastUsedMs, traceparent: causes?.get(key) };
      this.#departures.set(key, this.#watch.leaves(facts));
    }
  }

  /** The work reports by itself, its faults included. */
  #spawn(work: Promise<void>): void {
    const done = work.finally(() => this.#underWay.delete(done));
    this.#underWay.add(done);
    // A holding that contradicts itself cannot be trusted with the next event.
    done.catch(this.#fault.reject);
  }

  async #probe({ key, serverName, revision }: Extract<HoldingEffect, { kind: "probe" }>): Promise<void> {
    const { puller, driver } = this.#parts;
    using deadline = openDeadline(probeTimeoutMs, this.#stop.signal);
    const probed = await puller.probe(revision, deadline.signal).catch((error: unknown) => failedBy("storage", error));
    if (probed.kind === "failed") {
      this.#watch.probeFailed(probed.failure);
      return this.post({ kind: "probe-failed", key, failure: probed.failure, reason: probed.reason });
    }
    const { sizeBytes: artefactBytes } = probed;
    const asked = { ...revision, serverName, artefactBytes };
    const predictedBytes = await driver.predictBytes?.(asked, deadline.signal).catch(() => undefined);
    return this.post({ kind: "probed", key, artefactBytes, predictedBytes });
  }

  async #load(effect: Extract<HoldingEffect, { kind: "load" }>): Promise<void> {
    this.post(await this.#loader.load(effect));
  }

  async #unload({ key, serverName }: Extract<HoldingEffect, { kind: "unload" }>): Promise<void> {
    const { driver, log, unloadTimeoutMs = 30_000 } = this.#parts;
    const life = this.#lives.current;
    using deadline = openDeadline(unloadTimeoutMs, this.#stop.signal, life.signal);
    const departure = this.#departures.get(key);
    departure?.withdrawn();
    const result = await driver.unload(serverName, deadline.signal).catch((error: unknown) => failedBy("pod", error));
    departure?.unloaded(result.kind === "ok" ? undefined : result.reason);
    if (result.kind === "ok" || life !== this.#lives.current) this.#departures.delete(key);
    // With the model server went the copy; the holding knows it already.
    if (life !== this.#lives.current || this.#stop.signal.aborted) return undefined;
    if (result.kind === "ok") {
      await this.#artefacts.release(serverName);
      this.post({ kind: "unloaded", key });
      return await this.#lookAtMemory();
    }
    log.warn("an unload failed and will be tried again", { key, reason: result.reason });
    return this.post({ kind: "unload-failed", key });
  }
}
