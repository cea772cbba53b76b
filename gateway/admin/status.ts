// Owns what a model's state is called, from its record and its copies: for the management API, over REST and gRPC alike.
//
//   cold      no copy, and none on its way: the first request loads it
//   loading   a copy is on its way, none is ready
//   ready     at least one copy is ready
//   failed    no copy, and the last load failed; it is tried again after a pause
import type { ErrorCode } from "#core/errors.ts";
import type { Model, Revision } from "#core/model.ts";
import { etagOf } from "../changes.ts";
import type { Copies } from "../copies.ts";
import { codeOf } from "../failure.ts";
import type { Copy, CopyState, FailureKind, Fleet } from "../fleet.ts";
import type { Journal } from "../journal.ts";
import type { Loads } from "../loads.ts";
import type { Routes } from "../routes.ts";

export const modelStates = ["cold", "loading", "ready", "failed"] as const;

export type ModelState = (typeof modelStates)[number];

export interface FailureStatus {
  readonly code: ErrorCode;
  /** Whose fault it is; unknown when no pod would take the load. */
  readonly kind?: FailureKind;
  readonly reason: string;
  readonly atMs?: number;
  /** It is not tried again before. */
  readonly retryAfterMs?: number;
}

export interface CopyStatus {
  readonly pod: string;
  readonly revision: string;
  readonly slot: number;
  readonly state: CopyState;
  readonly sizeBytes: number;
  /** When it entered this state, as far as this gateway remembers. */
  readonly sinceMs?: number;
  readonly failure?: FailureStatus;
}

export type CopyCounts = Readonly<Record<CopyState, number>>;

export interface RevisionStatus {
  readonly id: string;
  readonly slot: number;
  readonly state: ModelState;
  readonly copies: CopyCounts;
  readonly failure?: FailureStatus;
}

export interface ModelStatus extends Model {
  readonly etag: string;
  /** Of the active revision. */
  readonly state: ModelState;
  /** KServe's words for the way from active to target. */
  readonly transition: "UpToDate" | "InProgress" | "BlockedByFailedLoad";
  readonly revisionStates: readonly RevisionStatus[];
  readonly copies: readonly CopyStatus[];
  readonly copyCounts: CopyCounts;
  /** Envoy has a route for it; and says so. */
  readonly routed: boolean;
  readonly acknowledged: boolean;
}

export interface StatusParts {
  readonly fleet: Pick<Fleet, "holders">;
  readonly routes: Pick<Routes, "isRouted" | "isSettled">;
  readonly loads: Pick<Loads, "failureOf">;
  readonly copies: Pick<Copies, "failureOf">;
  readonly journal: Pick<Journal, "since" | "lastFailure">;
}

export function describeModel(model: Model, parts: StatusParts): ModelStatus {
  const { name } = model;
  const copies = Array.from(parts.fleet.holders(name), ({ podId, copy }) => describeCopy(podId, copy, parts));
  const revisionStates = model.revisions.map((revision) => describeRevision(model, revision, copies, parts));
  const active = revisionStates.find(({ id }) => id === model.active);
  const routed = parts.routes.isRouted(name);
  return {
    ...model,
    etag: etagOf(model),
    state: active?.state ?? "cold",
    transition: transitionOf(model),
    revisionStates,
    copies,
    copyCounts: countCopies(copies),
    routed,
    acknowledged: routed && parts.routes.isSettled(name),
  };
}

export function transitionOf(model: Model): ModelStatus["transition"] {
  if (model.target === undefined) return "UpToDate";
  return model.failure === undefined ? "InProgress" : "BlockedByFailedLoad";
}

/** Of the active revision alone, for lists. */
export function stateOf(model: Model, parts: StatusParts): ModelState {
  const seen = new Set<CopyState>();
  for (const { copy } of parts.fleet.holders(model.name)) if (copy.revision === model.active) seen.add(copy.state);
  return decide(seen, failureOf(model.name, model.active, parts));
}

function describeCopy(podId: string, copy: Copy, { journal }: StatusParts): CopyStatus {
  const { model, revision, slot, state, sizeBytes, failure } = copy;
  const sinceMs = journal.since(model, revision, podId);
  const at = sinceMs === undefined ? {} : { atMs: sinceMs };
  return {
    pod: podId,
    revision,
    slot,
    state,
    sizeBytes,
    ...(sinceMs === undefined ? {} : { sinceMs }),
    ...(failure === undefined ? {} : { failure: { code: codeOf(failure.kind), ...failure, ...at } }),
  };
}

function describeRevision(model: Model, revision: Revision, copies: readonly CopyStatus[], parts: StatusParts): RevisionStatus {
  const { id, slot } = revision;
  const own = copies.filter((copy) => copy.revision === id);
  const failure = failureOf(model.name, id, parts) ?? ownFailure(model, id);
  const state = decide(new Set(own.map((copy) => copy.state)), failure);
  return { id, slot, state, copies: countCopies(own), ...(failure === undefined || state === "ready" ? {} : { failure }) };
}

/** Another gateway, the model's home, wrote it. */
function ownFailure(model: Model, id: string): FailureStatus | undefined {
  if (model.failure?.revision !== id) return undefined;
  const { code, reason, atMs } = model.failure;
  return { code, reason, atMs };
}

function decide(seen: ReadonlySet<CopyState>, failure: FailureStatus | undefined): ModelState {
  if (seen.has("ready")) return "ready";
  if (seen.has("queued") || seen.has("loading")) return "loading";
  return seen.has("failed") || failure !== undefined ? "failed" : "cold";
}

function failureOf(name: string, revision: string, { loads, copies, journal }: StatusParts): FailureStatus | undefined {
  const last = journal.lastFailure(name, revision);
  const known = loads.failureOf(name, revision) ?? copies.failureOf(name, revision);
  if (known === undefined) return last === undefined ? undefined : { code: codeOf(last.kind), ...pick(last) };
  const { code, reason, retryAfterMs } = known;
  return {
    ...(last === undefined ? {} : pick(last)),
    code,
    reason,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs: Math.ceil(retryAfterMs) }),
  };
}

function pick({ kind, reason, atMs }: { readonly kind: FailureKind; readonly reason: string; readonly atMs: number }): {
  readonly kind: FailureKind;
  readonly reason: string;
  readonly atMs: number;
} {
  return { kind, reason, atMs };
}

function countCopies(copies: readonly CopyStatus[]): CopyCounts {
  const counts = { queued: 0, loading: 0, ready: 0, leaving: 0, failed: 0 };
  for (const { state } of copies) counts[state] += 1;
  return counts;
}
