// Owns what may be done with models, for REST and gRPC alike: values in, values or refusals out, no protocol.
// Invariants: every change is one compare-and-set on the model's record; it is told as done when this gateway knows it too,
// or after a short patience; whoever names an etag changes only what he has seen.
import type { ErrorCode } from "#core/errors.ts";
import { findRevision, type Model } from "#core/model.ts";
import {
  addRevision,
  type Changed,
  changeSettings,
  isBlocked,
  promote,
  type Refusal,
  removeRevision,
  rollBack,
  setMirror,
  setSplit,
  setTarget,
} from "#core/revision.ts";
import { type Clock, sleep } from "#platform/clock.ts";
import type { ModelBook, ModelNews } from "../book.ts";
import { type ChangeModel, etagOf, type Rewrite } from "../changes.ts";
import type { Copies } from "../copies.ts";
import type { Fleet } from "../fleet.ts";
import type { Journal, JournalEvent } from "../journal.ts";
import type { Loads } from "../loads.ts";
import type { Routes } from "../routes.ts";
import type { Settled } from "../settled.ts";
import { silentSpan } from "../spans.ts";
import type { WishAsk, Wishes } from "../wishes.ts";
import { listModels } from "./listing.ts";
import {
  nameSpec,
  type Registration,
  type RevisionInput,
  readRegistration,
  readSpec,
  type SettingsInput,
} from "./registration.ts";
import { replace, sameRegistration } from "./reregistration.ts";
import { describeModel, type ModelState, type ModelStatus, stateOf } from "./status.ts";

export type Outcome<T> = { readonly kind: "ok"; readonly value: T } | Refused;

export type Refused = Refusal & {
  readonly retryAfterMs?: number | undefined;
  /** The record is not what the caller said that it is: not for anything about the change itself. */
  readonly isUnexpected?: true;
};

export interface Written {
  readonly name: string;
  readonly active: string;
  readonly target?: string;
  readonly etag: string;
  /** It was not registered before. */
  readonly created: boolean;
  /** Something was written; otherwise all was so already. */
  readonly changed: boolean;
  /** Of an added revision. */
  readonly revision?: string;
}

/** What must be true of the record for the change to be made. */
export interface Expectation {
  /** `*`: it must be there. */
  readonly etag?: string | undefined;
  readonly absent?: boolean | undefined;
}

export interface ListQuery {
  readonly after?: string | undefined;
  readonly limit: number;
  /** Key and value, or undefined for any value; all must hold. */
  readonly labels: readonly (readonly [string, string | undefined])[];
  readonly tenant?: string | undefined;
  readonly state?: ModelState | undefined;
}

export interface ListPage {
  readonly models: readonly Model[];
  /** `after` of the next page. A page may be short, even empty, and have a next one. */
  readonly next: string | undefined;
  /** A watch from here misses nothing. */
  readonly revision: number | undefined;
}

export interface LoadAsk extends WishAsk {
  readonly revision?: string | undefined;
}

export interface Loaded {
  readonly name: string;
  readonly revision: string;
  readonly ready: number;
  readonly underWay: number;
  readonly waitedMs: number;
}

/** When an added revision becomes active. */
export const activations = ["when-loaded", "now", "never"] as const;

export type Activation = (typeof activations)[number];

export interface Models {
  /** As the book's, and told as done when this gateway knows of it. */
  readonly change: ChangeModel;
  /** Sets the target, and moves the pointer where nothing has to be waited for. */
  aim(model: Model, id: string, loadNow: boolean): Changed;
  status(name: string): Outcome<ModelStatus>;
  stateOf(model: Model): ModelState;
  describe(model: Model): ModelStatus;
  history(name: string): Outcome<readonly JournalEvent[]>;
  /** Whether every gateway's clients are answered by this revision; by the active one when none is named. */
  settled(name: string, revision: string | undefined): Promise<Outcome<SettledAnswer>>;
  register(name: string, input: Registration, expect: Expectation): Promise<Outcome<Written>>;
  unregister(name: string, expect: Expectation): Promise<Outcome<{ readonly name: string }>>;
  list(query: ListQuery): Promise<Outcome<ListPage>>;
  watch(fromRevision: number, signal: AbortSignal): AsyncIterable<ModelNews>;
  load(name: string, ask: LoadAsk): Promise<Outcome<Loaded>>;
  changeSettings(name: string, input: SettingsInput, expect: Expectation): Promise<Outcome<Written>>;
  addRevision(
    name: string,
    input: RevisionInput,
    options: { readonly activate: Activation; readonly loadNow: boolean },
    expect: Expectation,
  ): Promise<Outcome<Written>>;
  removeRevision(name: string, id: string, expect: Expectation): Promise<Outcome<Written>>;
  promote(name: string, id: string | undefined, force: boolean, expect: Expectation): Promise<Outcome<Written>>;
  rollBack(name: string, expect: Expectation): Promise<Outcome<Written>>;
  setSplit(name: string, split: Parameters<typeof setSplit>[1], expect: Expectation): Promise<Outcome<Written>>;
  setMirror(name: string, mirror: Parameters<typeof setMirror>[1], expect: Expectation): Promise<Outcome<Written>>;
}

export interface SettledAnswer {
  readonly name: string;
  readonly revision: string;
  readonly settled: boolean;
  /** Gateways that are not there yet, or do not answer. */
  readonly lagging: readonly string[];
}

export interface ModelsParts {
  readonly book: ModelBook;
  readonly fleet: Fleet;
  readonly routes: Routes;
  readonly loads: Loads;
  readonly copies: Copies;
  readonly journal: Journal;
  readonly settled: Pick<Settled, "lagging">;
  readonly wishes: Pick<Wishes, "load">;
  readonly clock: Clock;
}

const noticeMs = 5;
const noticePatienceMs = 2_000;
const staleLookMs = 20;
const stalePatienceMs = 4_000;

export function createModels(parts: ModelsParts): Models {
  const { book, routes, loads, copies, journal, clock } = parts;

  async function wish(name: string, revision: string, ask: LoadAsk): Promise<Outcome<Loaded>> {
    const startMs = clock.monotonicMs();
    const done = await parts.wishes.load(name, revision, ask);
    if (done.kind === "failed") return { ...done, kind: "refused" };
    const { ready, underWay } = done;
    return { kind: "ok", value: { name, revision, ready, underWay, waitedMs: Math.round(clock.monotonicMs() - startMs) } };
  }

  /** One compare-and-set, and the wait until this gateway has seen it. */
  async function rewrite(
    name: string,
    expect: Expectation,
    apply: (known: Model) => Changed | Refusal,
  ): Promise<Outcome<Written>> {
    return await write(name, expect, (known) => {
      if (known === undefined) return refuse("model-not-found", `no model '${name}' is registered`);
      const changed = apply(known);
      if (changed.kind === "refused") return changed;
      return changed.model === known ? { kind: "keep" } : { kind: "put", model: changed.model };
    });
  }

  async function write(
    name: string,
    expect: Expectation,
    apply: (known: Model | undefined) => Rewrite,
  ): Promise<Outcome<Written>> {
    const done = await change(name, (known) => checkExpectation(name, known, expect) ?? apply(known));
    if (done.kind === "refused") return done;
    const { model } = done;
    if (model === undefined) return refuse("model-not-found", `no model '${name}' is registered`);
    const { active, target } = model;
    const etag = etagOf(model);
    const created = done.was === undefined;
    return {
      kind: "ok",
      value: { name, active, ...(target === undefined ? {} : { target }), etag, created, changed: done.written },
    };
  }

  const change: ChangeModel = async (name, apply, options) => {
    const untilMs = clock.monotonicMs() + stalePatienceMs;
    for (;;) {
      let stale: string | undefined;
      const done = await book.change(
        name,
        (known) => {
          const wanted = apply(known);
          stale = wanted.kind === "put" ? findStale(known, wanted.model) : undefined;
          return stale === undefined
            ? wanted
            : refuse(
                "conflict",
                `copies of an earlier revision '${stale}' of model '${name}' are still being dropped: try again`,
              );
        },
        options,
      );
      if (stale !== undefined && clock.monotonicMs() < untilMs) {
        await sleep(staleLookMs);
        continue;
      }
      if (done.kind === "ok" && done.written) {
        await noticed(name, done.model);
        const what = done.model === undefined ? "unregistered" : done.was === undefined ? "registered" : "changed";
        journal.note(name, { what, ...(done.model === undefined ? {} : { revision: done.model.active }) });
      }
      return done;
    }
  };

  /** A new revision whose id does not come from its content, while pods hold copies under the same id. */
  function findStale(known: Model | undefined, wanted: Model): string | undefined {
    const added = wanted.revisions.filter(({ id }) => known?.revisions.some((other) => other.id === id) !== true);
    const named = added.filter(({ id, slot: _slot, ...spec }) => id !== nameSpec(spec)).map(({ id }) => id);
    if (named.length === 0) return undefined;
    for (const { copy } of parts.fleet.holders(wanted.name)) {
      if (copy.state !== "failed" && named.some((id) => id === copy.revision)) return copy.revision;
    }
    return undefined;
  }

  /** This gateway answers by it from now on; other gateways a moment later. */
  async function noticed(name: string, model: Model | undefined): Promise<void> {
    const wanted = model === undefined ? undefined : etagOf(model);
    const untilMs = clock.monotonicMs() + noticePatienceMs;
    const before = book.get(name);
    for (;;) {
      const now = book.get(name);
      const etag = now === undefined ? undefined : etagOf(now);
      // Another change may have come after ours.
      if (etag === wanted || now !== before || clock.monotonicMs() > untilMs) return;
      await sleep(noticeMs);
    }
  }

  function isReady(name: string, revision: string): boolean {
    return copies.state(name, revision).ready > 0;
  }

  /** The pointer of a model that nobody uses moves at once: there is nothing to keep up. */
  function aim(model: Model, id: string, loadNow: boolean): Changed {
    const aimed = setTarget(model, id, clock.now(), { loadNow });
    if (aimed.kind === "refused" || aimed.model.target === undefined) return aimed;
    const { ready, underWay } = copies.state(model.name, model.active);
    const { target, minCopies = 0 } = aimed.model;
    const isIdle = ready === 0 && underWay === 0 && !loadNow && minCopies === 0 && !isBlocked(aimed.model);
    // What is still warm is there already, as when an edit is taken back.
    const isThere = ready <= copies.state(model.name, target).ready && isReady(model.name, target);
    return isIdle || isThere ? promote(aimed.model, target, clock.now()) : aimed;
  }

  return {
    change,
    aim,
    status(name) {
      const model = book.get(name);
      return model === undefined ? unknownModel(name) : { kind: "ok", value: describeModel(model, parts) };
    },
    stateOf: (model) => stateOf(model, parts),
    describe: (model) => describeModel(model, parts),
    history(name) {
      const events = journal.events(name);
      return events.length === 0 && book.get(name) === undefined ? unknownModel(name) : { kind: "ok", value: events };
    },
    async settled(name, asked) {
      const model = book.get(name);
      if (model === undefined) return unknownModel(name);
      const revision = asked ?? model.active;
      const lagging = await parts.settled.lagging(name, revision);
      return { kind: "ok", value: { name, revision, settled: lagging.length === 0, lagging } };
    },
    async register(name, input, expect) {
      return await write(name, expect, (known) => {
        const read = readRegistration(name, input, known);
        if (read.kind === "refused") return refuse("invalid-request", read.reason);
        if (known === undefined) return { kind: "put", model: read.found };
        if (expect.etag === undefined) {
          return sameRegistration(known, read.found)
            ? { kind: "keep" }
            : refuse("already-exists", `model '${name}' is registered with another content`);
        }
        const replaced = replace(known, read.found, input.revisions !== undefined, aim);
        return replaced.kind === "refused" ? replaced : { kind: "put", model: replaced.model };
      });
    },
    async unregister(name, expect) {
      const done = await change(
        name,
        (known) =>
          known === undefined && expect.etag === undefined
            ? { kind: "keep" }
            : (checkExpectation(name, known, expect) ?? { kind: "delete" }),
        expect.etag === undefined ? { malformed: "delete" } : {},
      );
      if (done.kind === "refused") return done;
      // Whoever registers the name anew must not get an answer of the old copies, to which Envoy still has the route.
      await routes.whenSettled(name, AbortSignal.timeout(noticePatienceMs)).catch(() => undefined);
      return { kind: "ok", value: { name } };
    },
    list: (query) => listModels(query, book, (model) => stateOf(model, parts)),
    watch: (fromRevision, signal) => book.watch(fromRevision, signal),
    async load(name, ask) {
      const model = book.get(name);
      if (model === undefined) return unknownModel(name);
      const revision = findRevision(model, ask.revision ?? model.active);
      if (revision === undefined) return refuse("revision-not-found", `model '${name}' has no revision '${ask.revision}'`);
      if (model.maxCopies !== undefined && ask.copies > model.maxCopies)
        return refuse("invalid-request", `model '${name}' has at most ${model.maxCopies} copies (maxCopies)`);
      if (ask.copies > 1 || revision.id !== model.active || !ask.wait) return await wish(name, revision.id, ask);
      const done = await loads.ensure(model, {
        deadlineMs: clock.monotonicMs() + ask.timeoutMs,
        signal: ask.signal,
        span: silentSpan,
      });
      if (done.kind === "failed") return { ...done, kind: "refused" };
      const { ready, underWay } = copies.state(name, revision.id);
      return { kind: "ok", value: { name, revision: revision.id, ready, underWay, waitedMs: done.waitedMs } };
    },
    async changeSettings(name, input, expect) {
      const settings = Object.fromEntries(Object.entries(input).map(([key, value]) => [key, value ?? undefined]));
      return await rewrite(name, expect, (known) => changeSettings(known, settings));
    },
    async addRevision(name, input, { activate, loadNow }, expect) {
      const spec = readSpec(input);
      if (spec.kind === "refused") return refuse("invalid-request", spec.reason);
      const { id } = spec.found;
      const done = await rewrite(name, expect, (known) => {
        const added = addRevision(known, spec.found);
        if (added.kind === "refused" || activate === "never") return added;
        return activate === "now" ? promote(added.model, id, clock.now()) : aim(added.model, id, loadNow);
      });
      return done.kind === "ok" ? { kind: "ok", value: { ...done.value, revision: id } } : done;
    },
    removeRevision: (name, id, expect) => rewrite(name, expect, (known) => removeRevision(known, id)),
    promote: (name, id, force, expect) =>
      rewrite(name, expect, (known) => {
        const wanted = id ?? known.target;
        if (wanted === undefined) return refuse("invalid-request", `model '${name}' has no target: name a revision`);
        return force ? promote(known, wanted, clock.now()) : aim(known, wanted, false);
      }),
    rollBack: (name, expect) =>
      rewrite(name, expect, (known) => rollBack(known, clock.now(), (id) => isReady(name, id) || !isReady(name, known.active))),
    setSplit: (name, split, expect) => rewrite(name, expect, (known) => setSplit(known, split)),
    setMirror: (name, mirror, expect) => rewrite(name, expect, (known) => setMirror(known, mirror)),
  };
}

function checkExpectation(name: string, known: Model | undefined, expect: Expectation): Refused | undefined {
  const unexpected = (code: ErrorCode, reason: string): Refused => ({ ...refuse(code, reason), isUnexpected: true });
  if (expect.absent === true && known !== undefined) return unexpected("already-exists", `model '${name}' is registered already`);
  if (expect.etag === undefined) return undefined;
  if (known === undefined) return unexpected("conflict", `no model '${name}' is registered`);
  if (expect.etag === "*" || expect.etag === etagOf(known)) return undefined;
  return unexpected("conflict", `model '${name}' is not what it was: its etag is ${etagOf(known)} now`);
}

function refuse(code: ErrorCode, reason: string): Refusal {
  return { kind: "refused", code, reason };
}

function unknownModel(name: string): Refusal {
  return refuse("model-not-found", `no model '${name}' is registered`);
}
