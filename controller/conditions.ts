// Owns the conditions of objects: a list by type, whose times move only when a status does. Pure.
import { list, record, text } from "./engine/objects.ts";

export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number;
  readonly lastTransitionTime?: string;
}

/** Ours, and those of other writers as they are. */
export type Conditions = readonly (Condition | Readonly<Record<string, unknown>>)[];

/** The wanted ones, with the times of those that were there; conditions of other writers stay. */
export function buildConditions(wanted: readonly Condition[], before: unknown, generation: number, nowMs: number): Conditions {
  const known = list(before).map(record);
  const ours = wanted.map((condition) => {
    const old = known.find(({ type }) => type === condition.type);
    const since = old?.["status"] === condition.status ? text(old["lastTransitionTime"]) : undefined;
    return {
      ...condition,
      message: condition.message.slice(0, 4_000).toWellFormed(),
      observedGeneration: generation,
      lastTransitionTime: since ?? `${new Date(nowMs).toISOString().slice(0, 19)}Z`,
    };
  });
  const types = new Set(wanted.map(({ type }) => type));
  const others = known.filter(({ type }) => typeof type === "string" && !types.has(type));
  return [...ours, ...others];
}

/** Whether merging the status would change the one that is there. */
export function changesStatus(wanted: unknown, current: unknown): boolean {
  if (wanted === null) return current !== undefined && current !== null;
  if (Array.isArray(wanted)) return !sameJson(wanted, current);
  if (typeof wanted === "object") {
    const there = record(current);
    return Object.entries(wanted).some(([key, value]) => changesStatus(value, there[key]));
  }
  return wanted !== current;
}

function sameJson(one: unknown, other: unknown): boolean {
  return JSON.stringify(ordered(one)) === JSON.stringify(ordered(other));
}

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, each]) => each !== undefined)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([key, each]) => [key, ordered(each)]),
  );
}
