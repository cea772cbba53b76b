// Owns the pointer of a model: which changes of its revisions, active and target are allowed, and what follows from each.
// Pure: a model and a time in, another model or a refusal out. The caller writes the result by compare-and-set.
//
//   add --> spare --target--> target --loaded--> active --another is promoted--> retired --kept for a time--> gone
//                    ^           |                  ^                               |
//                    |           +--fails: the reason is kept, active serves on     |
//                    +------------------------ rolled back, or set again -----------+
//
// Invariants: what comes out is a Model as parseModel takes it; what is active, target, split or mirrored is never removed;
// a change that changes nothing gives the very same model.
import type { ErrorCode } from "./errors.ts";
import { freeSlot, type Model, maxRevisions, parseModel, type Revision, type RevisionId } from "./model.ts";
import { maxFailureReason, type Retired, type TargetFailure } from "./pointer.ts";

export type Changed = { readonly kind: "ok"; readonly model: Model } | Refusal;

export interface Refusal {
  readonly kind: "refused";
  readonly code: ErrorCode;
  readonly reason: string;
}

/** A revision as its author writes it: the slot is the model's to give. */
export type RevisionSpec = Omit<Revision, "slot">;

export interface Keep {
  /** How long a revision that was active stays after it was replaced. */
  readonly ms: number;
  /** How many of them stay at most. */
  readonly count: number;
}

/** A revision into a free slot. The same spec again is well; when all slots are taken, what was retired first makes way. */
export function addRevision(model: Model, spec: RevisionSpec): Changed {
  const known = model.revisions.find(({ id }) => id === spec.id);
  if (known !== undefined) {
    return sameSpec(known, spec)
      ? { kind: "ok", model }
      : refuse("already-exists", `revision '${spec.id}' of model '${model.name}' exists with another content`);
  }
  const room = model.revisions.length < maxRevisions ? model : dropOldest(model);
  const slot = room === undefined ? undefined : freeSlot(room);
  if (room === undefined || slot === undefined)
    return refuse("invalid-request", `all ${maxRevisions} revisions of model '${model.name}' are in use: remove one first`);
  return change(room, { revisions: [...room.revisions, { ...spec, slot }] });
}

/**
 * What must load before the pointer moves to it. The active one as target: no target any more. `loadNow`: it is loaded even
 * when the active one is not.
 */
export function setTarget(model: Model, id: string, nowMs: number, { loadNow = false } = {}): Changed {
  const revision = find(model, id);
  if (revision === undefined) return unknown(model, id);
  if (model.target === undefined && model.active === revision.id) return { kind: "ok", model };
  if (model.target === revision.id)
    return loadNow === (model.loadNow === true) ? { kind: "ok", model } : change(model, { loadNow });
  const retired = model.target === undefined ? listRetired(model) : retire(model, model.target, nowMs, false);
  return change(model, {
    target: revision.id === model.active ? undefined : revision.id,
    loadNow: loadNow && revision.id !== model.active ? true : undefined,
    failure: undefined,
    retired: retired.filter((entry) => entry.revision !== revision.id),
  });
}

/** The pointer moves. A target that is another one stays the target. */
export function promote(model: Model, id: string, nowMs: number): Changed {
  const revision = find(model, id);
  if (revision === undefined) return unknown(model, id);
  if (model.active === revision.id) return { kind: "ok", model };
  const wasTarget = model.target === revision.id;
  return change(model, {
    active: revision.id,
    target: wasTarget ? undefined : model.target,
    failure: wasTarget ? undefined : model.failure,
    loadNow: wasTarget ? undefined : model.loadNow,
    retired: retire(model, model.active, nowMs, true).filter((entry) => entry.revision !== revision.id),
    split: model.split?.filter((share) => share.revision !== revision.id),
    mirror: model.mirror?.revision === revision.id ? undefined : model.mirror,
  });
}

/** The target's load failed. The same failure again changes nothing: its first time is kept, and nothing is written. */
export function failTarget(model: Model, failure: TargetFailure): Changed {
  if (model.target === undefined || model.target !== failure.revision) return { kind: "ok", model };
  const reason = failure.reason.slice(0, maxFailureReason).toWellFormed();
  if (model.failure?.code === failure.code && model.failure.reason === reason) return { kind: "ok", model };
  return change(model, { failure: { ...failure, revision: model.target, reason } });
}

/** The target was tried and is at fault itself: the active revision stays, whether it has copies or not. */
export function isBlocked({ failure }: { readonly failure?: { readonly code: ErrorCode } }): boolean {
  return failure !== undefined && failure.code !== "no-capacity";
}

/** The revision that was active before. */
export function previousRevision(model: Model): RevisionId | undefined {
  return model.retired?.findLast(({ served }) => served)?.revision;
}

/** Away from a target that has not loaded, else to the revision before: at once when `warm`, else as soon as it is loaded. */
export function rollBack(model: Model, nowMs: number, isWarm: (id: RevisionId) => boolean): Changed {
  if (model.target !== undefined) return setTarget(model, model.active, nowMs);
  const previous = previousRevision(model);
  if (previous === undefined) return refuse("revision-not-found", `model '${model.name}' has no earlier revision to go back to`);
  return isWarm(previous) ? promote(model, previous, nowMs) : setTarget(model, previous, nowMs);
}

/** Removes what was retired and has been kept long enough, or is more than is kept. What was only a target goes first. */
export function pruneRevisions(model: Model, nowMs: number, keep: Keep): Changed {
  const retired = listRetired(model).filter(({ revision }) => !isInUse(model, revision));
  const served = retired.filter((entry) => entry.served);
  const over = new Set(served.slice(0, Math.max(0, served.length - keep.count)));
  const gone = new Set(
    retired.filter((entry) => nowMs - entry.atMs >= keep.ms || over.has(entry)).map(({ revision }) => revision),
  );
  return gone.size === 0 ? { kind: "ok", model } : without(model, gone);
}

/** When pruning will have something to do; undefined when it has not. */
export function nextPruneMs(model: Model, keep: Keep): number | undefined {
  const times = listRetired(model).flatMap(({ revision, atMs }) => (isInUse(model, revision) ? [] : [atMs + keep.ms]));
  return times.length === 0 ? undefined : Math.min(...times);
}

export function removeRevision(model: Model, id: string): Changed {
  const revision = find(model, id);
  if (revision === undefined) return unknown(model, id);
  if (revision.id === model.active || revision.id === model.target || isInUse(model, revision.id))
    return refuse(
      "invalid-request",
      `revision '${id}' of model '${model.name}' is in use: it is active, target, split or mirrored`,
    );
  return without(model, new Set([revision.id]));
}

/** Shares for other revisions than the active one; an empty list gives it everything. */
export function setSplit(model: Model, split: readonly { readonly revision: string; readonly percent: number }[]): Changed {
  const strange = split.find(({ revision }) => find(model, revision) === undefined);
  return strange === undefined ? change(model, { split }) : unknown(model, strange.revision);
}

export function setMirror(model: Model, mirror: { readonly revision: string; readonly percent: number } | undefined): Changed {
  if (mirror !== undefined && find(model, mirror.revision) === undefined) return unknown(model, mirror.revision);
  return change(model, { mirror });
}

/** Everything that may be changed without another revision. `undefined` takes the setting away. */
export type ModelSettings = { readonly [K in "minCopies" | "maxCopies" | "pinned" | "priority" | "tenant" | "labels"]?: unknown };

export function changeSettings(model: Model, settings: ModelSettings): Changed {
  return change(model, settings);
}

/** The same artefact in the same form, whatever it is called. */
export function sameSpec(one: RevisionSpec, other: RevisionSpec): boolean {
  return specText(one) === specText(other);
}

/** A text that is the same for the same spec: ids are made of it. */
export function specText(spec: Omit<RevisionSpec, "id">): string {
  const ordered = (settings: Readonly<Record<string, string>> | undefined): unknown =>
    settings === undefined ? undefined : Object.entries(settings).toSorted(([a], [b]) => (a < b ? -1 : 1));
  // The first three alone, as registrations of early versions were named after.
  const rest = [
    spec.formatVersion,
    spec.runtime,
    spec.storageKey,
    ordered(spec.storageParameters),
    spec.schemaPath,
    ordered(spec.requiredLabels),
    ordered(spec.preferredLabels),
  ];
  const head = [spec.format, spec.storageUri, spec.sizeHintBytes];
  return JSON.stringify(rest.every((part) => part === undefined) ? head : [...head, ...rest]);
}

function find(model: Model, id: string): Revision | undefined {
  return model.revisions.find((revision) => revision.id === id);
}

function isInUse(model: Model, id: RevisionId): boolean {
  return model.mirror?.revision === id || (model.split ?? []).some(({ revision }) => revision === id);
}

function listRetired(model: Model): readonly Retired<RevisionId>[] {
  return model.retired ?? [];
}

function retire(model: Model, id: RevisionId, nowMs: number, served: boolean): readonly Retired<RevisionId>[] {
  const before = listRetired(model).find(({ revision }) => revision === id);
  const entry = { revision: id, atMs: Math.max(0, Math.round(nowMs)), served: served || before?.served === true };
  return [...listRetired(model).filter(({ revision }) => revision !== id), entry];
}

function dropOldest(model: Model): Model | undefined {
  const oldest = listRetired(model).find(({ revision }) => !isInUse(model, revision));
  const dropped = oldest === undefined ? undefined : without(model, new Set([oldest.revision]));
  return dropped?.kind === "ok" ? dropped.model : undefined;
}

function without(model: Model, gone: ReadonlySet<RevisionId>): Changed {
  return change(model, {
    revisions: model.revisions.filter(({ id }) => !gone.has(id)),
    retired: listRetired(model).filter(({ revision }) => !gone.has(revision)),
  });
}

/** Held to parseModel, so that no transition makes a record that could not be read back. */
function change(model: Model, changes: { readonly [K in keyof Model]?: unknown }): Changed {
  const parsed = parseModel({ ...model, ...changes });
  if (parsed.kind === "refused") return refuse("invalid-request", parsed.reason);
  return { kind: "ok", model: parsed.model };
}

function refuse(code: ErrorCode, reason: string): Refusal {
  return { kind: "refused", code, reason };
}

function unknown(model: Model, id: string): Refusal {
  return refuse("revision-not-found", `model '${model.name}' has no revision '${id}'`);
}
