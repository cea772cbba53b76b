// Owns what a placement is decided from: the pods as seen by the one who decides, and what is to be placed.

/** A pod as the one who decides sees it. */
export interface PodView {
  readonly podId: string;
  readonly runtime: string;
  /** What its runtime can serve: `onnx`, or with a version, `sklearn:1`. */
  readonly formats: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly capacityBytes: number;
  /** Held and reserved. */
  readonly usedBytes: number;
  readonly queued: number;
  readonly loading: number;
  /** How long ago its least recently used copy was used: its cache age. */
  readonly oldestIdleMs: number;
  readonly draining: boolean;
  readonly reachable: boolean;
  readonly requestsPerSecond: number;
  /** How long it has been known. */
  readonly ageMs?: number;
  readonly zone: string | undefined;
  readonly node: string | undefined;
}

export interface PlacementRequest {
  readonly model: string;
  readonly revision: string;
  readonly format: string;
  /** Undefined: any version. */
  readonly formatVersion?: string | undefined;
  /** Undefined: any runtime that serves the format. */
  readonly runtime: string | undefined;
  readonly sizeBytes: number;
  readonly requiredLabels: Readonly<Record<string, string>>;
  readonly preferredLabels: Readonly<Record<string, string>>;
  /** Pods to leave alone for a while, by pod id: a load failed there lately. */
  readonly excluded: ReadonlyMap<string, { readonly reason: string; readonly untilMs: number }>;
  /** Pods that have a copy already, in whatever state, by pod id. */
  readonly holders: ReadonlySet<string>;
  readonly waitingUser: boolean;
  /** How often the model is asked for; undefined when that is not known. */
  readonly requestsPerSecond?: number | undefined;
  /** Pods that hold other models together with one of the holders: choosing one of them makes no new placement set. */
  readonly partners?: ReadonlySet<string>;
  /** For copies that move: to pods that have not been there for long, which will not be the next to go. */
  readonly prefersNew?: boolean;
  /** The anti-thrash age, which counts unless a user waits. */
  readonly minAgeMs: number;
}
