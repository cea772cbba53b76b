// Owns the reasons why a pod cannot take a copy: a list of small judges, each of which gives a reason or nothing.
// Invariants: judges are asked in this order and the first reason counts; what cannot change soon (what the pod is) comes
// before what can (how it does now), so the judge that most pods got as far as names what is really missing.
import type { ErrorCode } from "../errors.ts";
import type { PlacementRequest, PodView } from "./request.ts";

export type JudgeName =
  | "runtime"
  | "format"
  | "labels"
  | "capacity"
  | "reachable"
  | "draining"
  | "excluded"
  | "holding"
  | "anti-thrash";

/** What it means when no pod gets past this judge. */
export type NowhereCode = Extract<ErrorCode, "no-runtime" | "no-pods" | "pod-failed" | "no-capacity">;

export interface Judge {
  readonly name: JudgeName;
  readonly code: NowhereCode;
  /** Why not; undefined when there is nothing against the pod. */
  readonly judge: (this: void, request: PlacementRequest, pod: PodView, nowMs: number) => string | undefined;
}

export const judges: readonly Judge[] = Object.freeze([
  {
    name: "runtime",
    code: "no-runtime",
    judge: ({ runtime }, pod) =>
      runtime === undefined || runtime === pod.runtime ? undefined : `its runtime is ${pod.runtime}, not ${runtime}`,
  },
  {
    name: "format",
    code: "no-runtime",
    judge: ({ format, formatVersion }, pod) =>
      serves(pod, format, formatVersion)
        ? undefined
        : `it does not serve the format ${format}${formatVersion === undefined ? "" : `:${formatVersion}`}`,
  },
  {
    name: "labels",
    code: "no-runtime",
    judge({ requiredLabels }, pod) {
      const missing = Object.entries(requiredLabels).find(([key, value]) => !hasLabel(pod, key, value));
      return missing === undefined ? undefined : `it lacks the label ${missing[0]}=${missing[1]}`;
    },
  },
  {
    name: "capacity",
    code: "no-capacity",
    judge: ({ sizeBytes }, pod) =>
      sizeBytes <= pod.capacityBytes ? undefined : `its ${pod.capacityBytes} bytes cannot hold ${sizeBytes}`,
  },
  {
    name: "reachable",
    code: "no-pods",
    judge: (_, pod) => (pod.reachable ? undefined : "it cannot be reached"),
  },
  {
    name: "draining",
    code: "no-pods",
    judge: (_, pod) => (pod.draining ? "it is draining" : undefined),
  },
  {
    name: "excluded",
    code: "pod-failed",
    judge({ excluded }, pod, nowMs) {
      const exclusion = excluded.get(pod.podId);
      return exclusion !== undefined && nowMs < exclusion.untilMs ? exclusion.reason : undefined;
    },
  },
  {
    name: "holding",
    code: "no-capacity",
    judge: ({ holders }, pod) => (holders.has(pod.podId) ? "it has a copy already" : undefined),
  },
  {
    name: "anti-thrash",
    code: "no-capacity",
    judge({ waitingUser, sizeBytes, minAgeMs }, pod) {
      if (waitingUser || hasRoom(pod, sizeBytes) || pod.oldestIdleMs >= minAgeMs) return undefined;
      return `it is full and its oldest copy was used ${pod.oldestIdleMs} ms ago, less than ${minAgeMs}`;
    },
  },
] satisfies readonly Judge[]);

/** A pod that names no version of a format serves them all; a revision that names none is served by any. */
function serves(pod: PodView, format: string, version: string | undefined): boolean {
  for (const known of pod.formats) {
    if (known === format) return true;
    const isVersion = known.startsWith(format) && known[format.length] === ":";
    if (isVersion && (version === undefined || known.slice(format.length + 1) === version)) return true;
  }
  return false;
}

export function hasLabel(pod: PodView, key: string, value: string): boolean {
  return Object.hasOwn(pod.labels, key) && pod.labels[key] === value;
}

export function hasRoom(pod: PodView, sizeBytes: number): boolean {
  return pod.capacityBytes - pod.usedBytes >= sizeBytes;
}
