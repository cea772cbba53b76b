// Owns that models have as many copies as their settings and their demand ask for (core/scaling.ts decides how many).
// Invariants: only for models whose home this gateway is; once a second for the models used since, and for those that have
// more than one copy, where these are many only every ten seconds; a part of them at a time, so that requests do not wait
// meanwhile; settings once for each change of a model. What it wants, it wants of copies.ts, which keeps it.
import { findRevision, type Model, maxCopiesLimit } from "#core/model.ts";
import {
  type CopiesWanted,
  type CopyLimits,
  type Demand,
  decideCopies,
  noScaling,
  type ScalingPolicy,
  type ScalingState,
} from "#core/scaling.ts";
import type { Clock } from "#platform/clock.ts";
import type { Copies } from "./copies.ts";
import type { Decisions } from "./decisions.ts";
import type { Fleet } from "./fleet.ts";
import type { Rates } from "./rates.ts";

export interface Scaler {
  /** So often a second as `ticksPerSecond` says. */
  tick(): void;
  /** The model was registered, changed or unregistered. */
  onModel(model: string): void;
  /** Gateways came or went. */
  onMembers(): void;
}

export interface ScalerParts {
  readonly fleet: Fleet;
  readonly copies: Copies;
  readonly rates: Rates;
  readonly decisions: Decisions;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly policy: ScalingPolicy;
  readonly findModel: (name: string) => Model | undefined;
  readonly isHome: (model: string) => boolean;
  /** So many copies somebody asked for last: they stay until their room is needed. None when absent. */
  readonly wishedOf?: (model: string, revision: string) => number;
  /** Told each second of the models used since. */
  readonly onUsed?: (models: ReadonlySet<string>) => void;
}

interface Scaled {
  state: ScalingState;
  /** The revisions for which copies are wanted. */
  revisions: Set<string>;
}

export const ticksPerSecond = 20;

/** Of the models with more than one copy that nobody asks for, so many are looked at each second, or this part when that is more. */
const restPerSecond = 200;
const restPart = 0.1;

const by = "demand";
const bySettings = "settings";
/** So long after its start, and after gateways came or went, this one may find copies that the home before it wanted. */
const inheritingMs = 15_000;

export function createScaler(parts: ScalerParts): Scaler {
  const { copies, rates, clock, wishedOf = () => 0 } = parts;
  /** Models of which more than one copy is wanted, or will be. */
  const scaled = new Map<string, Scaled>();
  /** Models with more copies than are wanted, and how those are on their way down. */
  const surplus = new Map<string, ScalingState>();
  /** Are to be looked at, a part of them with each tick. */
  const due = new Set<string>();
  let part = 0;
  let ticks = 0;
  let rest = followed();
  let inheritsUntilMs = clock.monotonicMs() + inheritingMs;
  /** Revisions that a model's settings want copies of. */
  const kept = new Map<string, readonly string[]>();

  function* followed(): Generator<string, undefined> {
    yield* scaled.keys();
    yield* surplus.keys();
  }

  /** What is due within the next second. */
  function gather(): void {
    const used = new Set(rates.take());
    parts.onUsed?.(used);
    for (const name of used) due.add(name);
    const count = Math.max(restPerSecond, Math.ceil((scaled.size + surplus.size) * restPart));
    for (let taken = 0; taken < count; taken++) {
      const { value } = rest.next();
      if (value === undefined) {
        rest = followed();
        break;
      }
      due.add(value);
    }
    part = Math.ceil(due.size / ticksPerSecond);
  }

  function consider(name: string, nowMs: number): void {
    const model = parts.findModel(name);
    const known = scaled.get(name);
    if (model === undefined || !parts.isHome(name)) {
      surplus.delete(name);
      return known === undefined ? undefined : release(name, known);
    }
    const { minCopies = 0, maxCopies = maxCopiesLimit } = model;
    const limits = { minCopies, maxCopies: Math.min(maxCopies, Math.max(1, parts.fleet.views().length)) };
    const state = known?.state ?? noScaling;
    const before = nowMs < inheritsUntilMs ? inherit(model, state) : state;
    const demand = rates.demandOf(name);
    apply(model, known, decideCopies(demand, before, limits, parts.policy, nowMs));
    trim(model, demand, limits, nowMs);
  }

  /**
   * Copies that nobody wants: a home before this one did, or they were loaded in place of others that came back. They go
   * as if they had been wanted, when the demand has been low for as long; none is loaded for them meanwhile. Two for a moment,
   * while a copy moves, are no surplus.
   */
  function trim({ name, active }: Model, demand: Demand, limits: CopyLimits, nowMs: number): void {
    const { ready } = copies.state(name, active);
    const least = Math.max(1, wishedOf(name, active));
    if (ready <= Math.max(least, scaled.get(name)?.state.copies ?? 0)) return void surplus.delete(name);
    const before = { ...(surplus.get(name) ?? noScaling), copies: ready };
    const reach = { ...limits, maxCopies: Math.max(ready, limits.maxCopies) };
    const { state, why, reason } = decideCopies(demand, before, reach, parts.policy, nowMs);
    if (state.copies >= ready) return void surplus.set(name, state);
    surplus.delete(name);
    const keep = Math.max(least, state.copies);
    const said = `${keep} of ${ready} copies for ${why}: ${reason}`;
    parts.decisions.record({ kind: "scaled-down", model: name, revision: active, reason: said });
    copies.shrink(name, active, keep);
  }

  /** The copies that are there were wanted by the home before this one: they go as those that this one wanted. */
  function inherit({ name, active }: Model, state: ScalingState): ScalingState {
    const { ready } = copies.state(name, active);
    return ready > Math.max(1, state.copies) ? { ...state, copies: ready } : state;
  }

  function apply(model: Model, known: Scaled | undefined, wanted: CopiesWanted): void {
    const { state, forDemand } = wanted;
    // One copy comes by itself with the first request, and goes when its room is needed.
    if (state.copies < 2) {
      if (known === undefined) return undefined;
      if (known.state.copies >= 2) note(model, "scaled-down", state.copies, wanted);
      release(model.name, known);
      // A model out of use keeps one, until its room is needed.
      return copies.shrink(model.name, model.active, Math.max(1, wishedOf(model.name, model.active)));
    }
    const was = known?.state.copies ?? 0;
    const entry: Scaled = known ?? { state, revisions: new Set() };
    scaled.set(model.name, entry);
    entry.state = state;
    if (state.copies !== was) note(model, state.copies > was ? "scaled-up" : "scaled-down", state.copies, wanted);
    const counts = countsOf(model, state.copies);
    for (const id of entry.revisions) if (!counts.has(id)) copies.unwant(model.name, id, by);
    entry.revisions = new Set(counts.keys());
    for (const [id, count] of counts) {
      // For availability alone nobody's room is taken; nor for a part of it that demand does not ask for.
      const options = { by, spareRoomOnly: forDemand < 2 };
      copies.want(model.name, id, count, "scale-up", options);
      if (state.copies < was) copies.shrink(model.name, id, Math.max(count, wishedOf(model.name, id)));
    }
    return undefined;
  }

  function release(name: string, known: Scaled): void {
    for (const id of known.revisions) copies.unwant(name, id, by);
    scaled.delete(name);
  }

  function note(model: Model, kind: "scaled-up" | "scaled-down", count: number, { why, reason }: CopiesWanted): void {
    parts.decisions.record({ kind, model: model.name, revision: model.active, reason: `${count} copies for ${why}: ${reason}` });
  }

  return {
    tick() {
      if (ticks++ % ticksPerSecond === 0) gather();
      const nowMs = clock.monotonicMs();
      for (const name of due.values().take(part)) {
        due.delete(name);
        consider(name, nowMs);
      }
    },
    onModel(name) {
      const model = parts.findModel(name);
      const minCopies = model?.minCopies ?? 0;
      const wanted = model === undefined || minCopies === 0 ? [] : [model.active];
      for (const id of kept.get(name) ?? []) if (!wanted.some((other) => other === id)) copies.unwant(name, id, bySettings);
      if (wanted.length === 0) kept.delete(name);
      else kept.set(name, wanted);
      for (const id of wanted) copies.want(name, id, minCopies, "ensure", { by: bySettings });
      if (scaled.has(name)) consider(name, clock.monotonicMs());
    },
    onMembers() {
      inheritsUntilMs = clock.monotonicMs() + inheritingMs;
    },
  };
}

/** Of the active revision as many as the model needs; of those with a share of its requests that share. */
function countsOf(model: Model, count: number): ReadonlyMap<string, number> {
  const shares = [...(model.split ?? []), ...(model.mirror === undefined ? [] : [model.mirror])];
  const counts = new Map<string, number>([[model.active, count]]);
  for (const { revision, percent } of shares) {
    if (findRevision(model, revision) !== undefined) counts.set(revision, Math.max(1, Math.ceil((count * percent) / 100)));
  }
  return counts;
}
