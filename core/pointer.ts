// Owns what a model remembers about its pointer beside where it points: which revisions were taken out of use and when, and
// why the target cannot be loaded. Part of the record, so that every gateway and the controller tell the same.
// Invariant: each remembered revision is one of the model's, named once, and the failure is the target's.
import { type ErrorCode, isErrorCode } from "./errors.ts";
import { type Found, isRecord, isWhole, own, refused } from "./fields.ts";

/** A revision that was in use and is no longer. */
export interface Retired<Id extends string = string> {
  readonly revision: Id;
  readonly atMs: number;
  /** It was active, so one may roll back to it; otherwise it was a target that something else replaced. */
  readonly served: boolean;
}

/** Why the target does not load; the active revision serves on. */
export interface TargetFailure<Id extends string = string> {
  readonly revision: Id;
  readonly code: ErrorCode;
  /** For people; at most 1,000 characters. */
  readonly reason: string;
  readonly atMs: number;
}

export interface PointerMemory<Id extends string = string> {
  /** The one retired last is last. */
  readonly retired?: readonly Retired<Id>[];
  readonly failure?: TargetFailure<Id>;
  /** The target is loaded though the active revision is not; without it the pointer of a cold model moves at once. */
  readonly loadNow?: boolean;
}

export const maxFailureReason = 1_000;
const latestMs = 8.64e15;

/** `spare`: the ids that are neither active nor target. */
export function parsePointerMemory<Id extends string>(
  value: Readonly<Record<string, unknown>>,
  spare: readonly Id[],
  target: Id | undefined,
): Found<PointerMemory<Id>> {
  const retired = parseRetired(own(value, "retired"), spare);
  if (retired.kind === "refused") return retired;
  const failure = parseFailure(own(value, "failure"), target);
  if (failure.kind === "refused") return failure;
  const loadNow = own(value, "loadNow");
  if (loadNow !== undefined && (typeof loadNow !== "boolean" || target === undefined))
    return refused("loadNow must be true or false, and only with a target");
  return { kind: "ok", found: { ...retired.found, ...failure.found, ...(loadNow === undefined ? {} : { loadNow }) } };
}

function parseRetired<Id extends string>(
  value: unknown,
  spare: readonly Id[],
): Found<{ readonly retired?: readonly Retired<Id>[] }> {
  if (value === undefined) return { kind: "ok", found: {} };
  if (!Array.isArray(value) || value.length > spare.length)
    return refused("retired must be a list of revisions that are neither active nor target, or left out");
  const retired: Retired<Id>[] = [];
  for (const each of value) {
    if (!isRecord(each)) return refused("retired must be a list of objects");
    const revision = spare.find((id) => id === own(each, "revision"));
    const atMs = own(each, "atMs");
    const served = own(each, "served");
    if (revision === undefined || retired.some((other) => other.revision === revision))
      return refused("retired must name each revision once, and none that is active or target");
    if (!isWhole(atMs, 0, latestMs)) return refused("retired: atMs must be milliseconds since 1970");
    if (typeof served !== "boolean") return refused("retired: served must be true or false");
    retired.push(Object.freeze({ revision, atMs, served }));
  }
  return { kind: "ok", found: retired.length === 0 ? {} : { retired: Object.freeze(retired) } };
}

function parseFailure<Id extends string>(
  value: unknown,
  target: Id | undefined,
): Found<{ readonly failure?: TargetFailure<Id> }> {
  if (value === undefined) return { kind: "ok", found: {} };
  if (!isRecord(value)) return refused("failure must be an object, or left out");
  const code = own(value, "code");
  const reason = own(value, "reason");
  const atMs = own(value, "atMs");
  if (target === undefined || own(value, "revision") !== target) return refused("failure must be of the target");
  if (typeof code !== "string" || !isErrorCode(code)) return refused("failure: code must be one of the error catalogue");
  if (typeof reason !== "string" || reason.length > maxFailureReason || !reason.isWellFormed())
    return refused(`failure: reason must be a text of at most ${maxFailureReason} characters`);
  if (!isWhole(atMs, 0, latestMs)) return refused("failure: atMs must be milliseconds since 1970");
  return { kind: "ok", found: { failure: Object.freeze({ revision: target, code, reason, atMs }) } };
}
