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
  /** False: it refuses no pod, whatever that is, and is not asked. Absent: it is always asked. */
  readonly concerns?: (this: void, request: PlacementRequest) => boolean;
  /** Asked of every pod for every decision that it concerns. */
  readonly refuses: (this: void, request: PlacementRequest, pod: PodView, nowMs: number) => boolean;
  /** Why, for a pod that it refuses: only for those who ask. */
  readonly reason: (this: void, request: PlacementRequest, pod: PodView) => string;
}

export const judges: readonly Judge[] = Object.freeze([
  {
    name: "runtime",
    code: "no-runtime",
    concerns: ({ runtime }) => runtime !== undefined,
    refuses: ({ runtime }, pod) => runtime !== pod.runtime,
    reason: ({ runtime }, pod) => `its runtime is ${pod.runtime}, not ${runtime}`,
  },
  {
    name: "format",
    code: "no-runtime",
    refuses: ({ format, formatVersion }, pod) => !serves(pod, format, formatVersion),
    reason: ({ format, formatVersion }) =>
      `it does not serve the format ${format}${formatVersion === undefined ? "" : `:${formatVersion}`}`,
  },
  {
    name: "labels",
    code: "no-runtime",
    concerns: ({ requiredLabels }) => Object.keys(requiredLabels).length > 0,
    refuses: ({ requiredLabels }, pod) => missingLabel(requiredLabels, pod) !== undefined,
    reason({ requiredLabels }, pod) {
      const key = missingLabel(requiredLabels, pod) ?? "";
      return `it lacks the label ${key}=${requiredLabels[key]}`;
    },
  },
  {
    name: "capacity",
    code: "no-capacity",
    refuses: ({ sizeBytes }, pod) => sizeBytes > pod.capacityBytes,
    reason: ({ sizeBytes }, pod) => `its ${pod.capacityBytes} bytes cannot hold ${sizeBytes}`,
  },
  {
    name: "reachable",
    code: "no-pods",
    refuses: (_, pod) => !pod.reachable,
    reason: () => "it cannot be reached",
  },
  {
    name: "draining",
    code: "no-pods",
    refuses: (_, pod) => pod.draining,
    reason: () => "it is draining",
  },
  {
    name: "excluded",
    code: "pod-failed",
    concerns: ({ excluded }) => excluded.size > 0,
    refuses({ excluded }, pod, nowMs) {
      const exclusion = excluded.get(pod.podId);
      return exclusion !== undefined && nowMs < exclusion.untilMs;
    },
    reason: ({ excluded }, pod) => excluded.get(pod.podId)?.reason ?? "a load failed there lately",
  },
  {
    name: "holding",
    code: "no-capacity",
    concerns: ({ holders }) => holders.size > 0,
    refuses: ({ holders }, pod) => holders.has(pod.podId),
    reason: () => "it has a copy already",
  },
  {
    name: "anti-thrash",
    code: "no-capacity",
    concerns: ({ waitingUser }) => !waitingUser,
    refuses: ({ sizeBytes, minAgeMs }, pod) => !hasRoom(pod, sizeBytes) && pod.oldestIdleMs < minAgeMs,
    reason: ({ minAgeMs }, pod) => `it is full and its oldest copy was used ${pod.oldestIdleMs} ms ago, less than ${minAgeMs}`,
  },
] satisfies readonly Judge[]);

function missingLabel(required: PlacementRequest["requiredLabels"], pod: PodView): string | undefined {
  for (const key in required) if (!hasLabel(pod, key, required[key] ?? "")) return key;
  return undefined;
}

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
