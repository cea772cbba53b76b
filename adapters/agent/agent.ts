// Owns the performing of what the holding decides: pulls, loads, unloads, timers; and what the model server tells.
//
//   events --> holding.step --> effects --> pull + driver, or the gateways --> events ...
//
// Invariants: an effect is performed in the order in which it was decided; every call has a deadline; a result that comes
// from before the model server was lost never counts as success. A load that may have reached the model server and failed
// is unloaded there; and from time to time both are compared, so that neither holds what the other does not know for long.
import { errorMessage } from "#core/errors.ts";
import { parseRevisionId, parseServerName } from "#core/model.ts";
import { type Clock, sleep } from "#platform/clock.ts";
import { type Log, withLogKeys } from "#platform/log.ts";
import { logKeysOf } from "#platform/telemetry.ts";
import type { Driver, Failure, HeldModel, Loaded } from "../drivers/driver.ts";
import type { Artefact, Puller } from "../pull/puller.ts";
import { type CopyView, copyKey } from "./copies.ts";
import type { HeldCopy, HoldingEffect, HoldingEvent } from "./events.ts";
import type { Holding, HoldingGauges } from "./holding.ts";
import { type AgentWatch, type DepartureWatch, type LoadFacts, type LoadWatch, noWatch } from "./watch.ts";

/** What goes to gateways. */
export type AgentMessage = Extract<HoldingEffect, { readonly kind: "publish" | "tell" | "refuse" | "draining" }>;

export interface Agent {
  post(event: HoldingEvent): void;
  /** Is the copy really there? When it is not, the holding is put right. */
  verify(key: string, signal: AbortSignal): Promise<boolean>;
  views(): readonly CopyView[];
  gauges(): HoldingGauges;
  /** Resolves once the model server has answered for the first time. */
  readonly up: Promise<void>;
  /** Watches over the model server until the signal is aborted, and ends what is under way. Rejects at a fault. */
  run(signal: AbortSignal): Promise<void>;
}

export interface AgentParts {
  readonly holding: Holding;
  readonly driver: Driver;
  readonly puller: Puller;
  readonly clock: Clock;
  readonly log: Log;
  /** Nothing is told when absent. */
  readonly watch?: AgentWatch | undefined;
  /** Called in order; must not throw. */
  readonly onMessage: (message: AgentMessage) => void;
  /** Pull and load together; 120 s when absent. */
  readonly loadTimeoutMs?: number;
  /** 30 s when absent. */
  readonly unloadTimeoutMs?: number;
  /** How often holding and model server are compared; 10 s when absent. */
  readonly compareMs?: number;
}

const probeTimeoutMs = 10_000;
const verifyTimeoutMs = 1_000;
/** A model server that answers neither requests nor the watch for so long stands still. */
const doubtedSilenceMs = 4_000;
/** The same while it loads a model, which may keep it busy. */
const loadingSilenceMs = 9_000;
const listTimeoutMs = 5_000;
/** A model server that died is known to have done so within this. */
const noticeMs = 1_000;
/** Somebody waits to hear of the failure. */
const cleanUpTimeoutMs = 5_000;

export function createAgent(parts: AgentParts): Agent {
  return new PodAgent(parts);
}

class PodAgent implements Agent {
  readonly #parts: AgentParts;
  readonly #firstUp = Promise.withResolvers<void>();
  readonly #fault = Promise.withResolvers<never>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  /** Aborted when the model server is lost; another one for each of its lives. */
  #life = new AbortController();
  /** Loads that are in the model server now. */
  readonly #inServer = new Set<string>();
  /** Of lives that ended: how many were. */
  readonly #suspects = new WeakMap<AbortSignal, number>();
  #timer: NodeJS.Timeout | undefined;
  /** By key, of copies that are leaving. */
  readonly #departures = new Map<string, DepartureWatch>();
  /** How to let go of what loaded copies still need on the disk, by their names on the model server. */
  readonly #artefacts = new Map<string, () => Promise<void>>();
  /** The one that is being handled, and those that came meanwhile. */
  readonly #events: HoldingEvent[] = [];

  constructor(parts: AgentParts) {
    this.#parts = parts;
    this.#fault.promise.catch(() => undefined);
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
    const life = this.#life;
    const name = serverNameOf(view);
    const ready = await driver
      .ready(name, view.revision, AbortSignal.any([signal, this.#stop.signal, AbortSignal.timeout(verifyTimeoutMs)]))
      .catch(() => undefined);
    if (ready === false && life === this.#life && holding.view(key)?.state === "ready") {
      log.warn("the model server does not hold a copy that it should", { model: view.model, revision: view.revision });
      this.#missing(key, name);
    }
    if (ready === undefined && life === this.#life && !signal.aborted) {
      driver.doubt(this.#inServer.size === 0 ? doubtedSilenceMs : loadingSilenceMs);
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
            this.post({ kind: "server-up", held: held.flatMap((model) => this.#parseHeld(model)) });
            this.#firstUp.resolve();
          },
          onLost: (reason, how) => {
            log.warn("the model server is lost", { reason });
            const lost = this.#life;
            this.#departures.clear();
            this.#suspects.set(lost.signal, this.#inServer.size);
            this.#life = new AbortController();
            this.post({ kind: "server-lost", silent: how === "silent" });
            for (const serverName of Array.from(this.#artefacts.keys())) this.#spawn(this.#releaseArtefact(serverName));
            lost.abort(new Error(`the model server is lost: ${reason}`));
          },
        },
        ended,
      );
      await Promise.race([watching, this.#fault.promise]);
    } finally {
      this.#stop.abort(new Error("the adapter is stopping"));
      clearTimeout(this.#timer);
      await Promise.allSettled(this.#underWay);
      await Promise.all(Array.from(this.#artefacts.keys(), (serverName) => this.#releaseArtefact(serverName)));
    }
  }

  async #compareOften(signal: AbortSignal): Promise<void> {
    const { driver, compareMs = 10_000 } = this.#parts;
    while (!signal.aborted) {
      await sleep(compareMs, signal).catch(() => undefined);
      if (!signal.aborted && driver.alive()) await this.#compare(signal);
    }
  }

  /** Speaks only of what was one way before and after the list was read: what changed meanwhile is told by itself. */
  async #compare(signal: AbortSignal): Promise<void> {
    const { driver, log } = this.#parts;
    const life = this.#life;
    const before = this.#onServer();
    const listed = await driver.list(AbortSignal.any([signal, AbortSignal.timeout(listTimeoutMs)])).catch(() => undefined);
    if (listed?.kind !== "ok" || life !== this.#life || signal.aborted) return;
    const after = this.#onServer();
    const there = new Set(listed.held.map((model) => `${model.serverName} ${model.revision}`));
    for (const [name, view] of before) {
      if (view.state !== "ready" || after.get(name)?.state !== "ready" || there.has(`${name} ${view.revision}`)) continue;
      log.warn("the model server does not hold a copy that it should", { model: view.model, revision: view.revision });
      this.#missing(copyKey(view), name);
    }
    const strange = listed.held.filter(({ serverName }) => !before.has(serverName) && !after.has(serverName));
    const found = strange.flatMap((model) => this.#parseHeld(model));
    if (found.length === 0) return;
    log.warn("the model server holds copies that nobody waits for", { copies: found.length });
    this.post({ kind: "copies-found", held: found });
  }

  /** What is in the model server, or on its way in or out, by its name there. */
  #onServer(): ReadonlyMap<string, CopyView> {
    const views = this.views().filter(({ state }) => state === "loading" || state === "ready" || state === "leaving");
    return new Map(views.map((view) => [serverNameOf(view), view]));
  }

  #parseHeld(model: HeldModel): HeldCopy[] {
    const name = parseServerName(model.serverName);
    const revision = parseRevisionId(model.revision);
    if (name.kind === "ok" && revision.kind === "ok") {
      const { serverName, sizeBytes } = model;
      return [{ model: name.name, revision: revision.id, slot: name.slot, serverName, sizeBytes }];
    }
    this.#parts.log.warn("the model server holds what no adapter loaded", { name: model.serverName.slice(0, 100) });
    return [];
  }

  #missing(key: string, serverName: string): void {
    this.post({ kind: "copy-missing", key });
    this.#spawn(this.#releaseArtefact(serverName));
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
        return this.#spawn(withLogKeys({}, () => this.#probe(effect.key, effect.revision)));
      case "load":
        return this.#spawn(withLogKeys(logKeysOf(effect.traceparent), () => this.#load(effect)));
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

  async #probe(key: string, artefact: Artefact): Promise<void> {
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(probeTimeoutMs)]);
    const probed = await this.#parts.puller.probe(artefact, signal).catch((error: unknown) => failedBy("storage", error));
    if (probed.kind === "ok") return this.post({ kind: "probed", key, artefactBytes: probed.sizeBytes });
    this.#watch.probeFailed(probed.failure);
    return this.post({ kind: "probe-failed", key, failure: probed.failure, reason: probed.reason });
  }

  async #load(effect: Extract<HoldingEffect, { kind: "load" }>): Promise<void> {
    const { log, clock, loadTimeoutMs = 120_000 } = this.#parts;
    const life = this.#life.signal;
    const signal = AbortSignal.any([this.#stop.signal, life, AbortSignal.timeout(loadTimeoutMs)]);
    const startMs = clock.monotonicMs();
    const watch = this.#watch.loadStarts(factsOf(effect));
    const result = await this.#pullAndLoad(effect, watch, signal).catch((error: unknown) => failedBy("pod", error));
    const { key, reservedBytes } = effect;
    const reached = this.#inServer.has(key);
    const lost = life.aborted || (reached && result.kind === "failed" && result.failure === "pod" && (await this.#isLost(life)));
    this.#inServer.delete(key);
    if (result.kind === "ok" && !lost) {
      watch.end({ kind: "ok", sizeBytes: result.sizeBytes });
      log.debug("a copy is loaded", { key, sizeBytes: result.sizeBytes, reservedBytes, loadMs: clock.monotonicMs() - startMs });
      return this.post({ kind: "loaded", key, sizeBytes: result.sizeBytes, measured: result.measured });
    }
    const failure = result.kind === "ok" ? failedBy("pod", life.reason) : result;
    watch.end({ kind: "failed", failure: failure.failure, reason: failure.reason });
    log.warn("a load failed", { key, failure: failure.failure, reason: failure.reason });
    const suspects = reached && lost ? this.#suspects.get(life) : undefined;
    const blamed = suspects === undefined ? failure.failure : "server-died";
    return this.post({ kind: "load-failed", key, failure: blamed, reason: failure.reason, suspects });
  }

  /** A dead model server breaks its connections before the watch has looked. True when it is lost by now. */
  async #isLost(life: AbortSignal): Promise<boolean> {
    const quick = AbortSignal.any([this.#stop.signal, life, AbortSignal.timeout(noticeMs)]);
    const listed = await this.#parts.driver.list(quick).catch(() => undefined);
    if (listed?.kind === "ok" || life.aborted || this.#stop.signal.aborted) return life.aborted;
    const { promise, resolve } = Promise.withResolvers<void>();
    const late = setTimeout(resolve, noticeMs);
    const over = (): void => resolve();
    life.addEventListener("abort", over, { once: true });
    this.#stop.signal.addEventListener("abort", over, { once: true });
    await promise;
    clearTimeout(late);
    life.removeEventListener("abort", over);
    this.#stop.signal.removeEventListener("abort", over);
    return life.aborted;
  }

  async #pullAndLoad(
    { key, serverName, revision, reservedBytes }: Extract<HoldingEffect, { kind: "load" }>,
    watch: LoadWatch,
    signal: AbortSignal,
  ): Promise<Loaded | Failure> {
    const { driver, puller } = this.#parts;
    const { format, formatVersion } = revision;
    const life = this.#life.signal;
    const pullEnds = watch.step("pull");
    const pulled = await puller.pull(revision, signal).catch((error: unknown) => failedBy("storage", error));
    pullEnds(pulled.kind === "failed" ? pulled.reason : undefined);
    if (pulled.kind === "failed") return pulled;
    let kept = false;
    try {
      const serverEnds = watch.step("server");
      this.#inServer.add(key);
      const loaded = await driver
        .load({
          serverName,
          revision: revision.id,
          path: pulled.path,
          format,
          ...(formatVersion === undefined ? {} : { formatVersion }),
          ...(pulled.schemaPath === undefined ? {} : { schemaPath: pulled.schemaPath }),
          expectedBytes: reservedBytes,
          signal,
        })
        .catch((error: unknown) => failedBy("pod", error));
      serverEnds(loaded.kind === "failed" ? loaded.reason : undefined);
      if (loaded.kind === "failed" && (loaded.failure === "pod" || signal.aborted)) {
        const patience = AbortSignal.any([life, this.#stop.signal, AbortSignal.timeout(cleanUpTimeoutMs)]);
        if (!patience.aborted) await driver.unload(serverName, patience).catch(() => undefined);
      }
      if (loaded.kind === "ok" && driver.keepsArtefact && !life.aborted) {
        kept = true;
        await this.#keepArtefact(serverName, () => pulled.release());
      }
      return loaded;
    } finally {
      if (!kept) await pulled.release();
    }
  }

  /** Until the copy is unloaded, another one is loaded under its name, or the model server is lost. */
  async #keepArtefact(serverName: string, release: () => Promise<void>): Promise<void> {
    const before = this.#artefacts.get(serverName);
    this.#artefacts.set(serverName, release);
    await before?.();
  }

  async #releaseArtefact(serverName: string): Promise<void> {
    const release = this.#artefacts.get(serverName);
    this.#artefacts.delete(serverName);
    await release?.();
  }

  async #unload({ key, serverName }: Extract<HoldingEffect, { kind: "unload" }>): Promise<void> {
    const { driver, log, unloadTimeoutMs = 30_000 } = this.#parts;
    const life = this.#life;
    const signal = AbortSignal.any([this.#stop.signal, life.signal, AbortSignal.timeout(unloadTimeoutMs)]);
    const departure = this.#departures.get(key);
    departure?.withdrawn();
    const result = await driver.unload(serverName, signal).catch((error: unknown) => failedBy("pod", error));
    departure?.unloaded(result.kind === "ok" ? undefined : result.reason);
    if (result.kind === "ok" || life !== this.#life) this.#departures.delete(key);
    // With the model server went the copy; the holding knows it already.
    if (life !== this.#life || this.#stop.signal.aborted) return undefined;
    if (result.kind === "ok") {
      await this.#releaseArtefact(serverName);
      return this.post({ kind: "unloaded", key });
    }
    log.warn("an unload failed and will be tried again", { key, reason: result.reason });
    return this.post({ kind: "unload-failed", key });
  }
}

function factsOf(effect: Extract<HoldingEffect, { kind: "load" }>): LoadFacts {
  const { key, revision, loadClass, queuedMs, reservedBytes, traceparent } = effect;
  // A key is the model, an @ and the revision.
  const model = key.slice(0, -revision.id.length - 1);
  return { model, revision: revision.id, loadClass, queuedMs, reservedBytes, traceparent };
}

function serverNameOf(view: CopyView): string {
  return view.slot === 0 ? view.model : `${view.model}~${view.slot}`;
}

function failedBy(failure: Failure["failure"], error: unknown): Failure {
  return { kind: "failed", failure, reason: errorMessage(error) };
}
