// Owns the choice of which copies make room for another one on a pod.
// The rule: walk the copies least recently used first, pass over the pinned ones, those that are used much more than the
// newcomer and, unless a user waits, those used within the anti-thrash age; take each until there is room. Then, from the most recently used to the least, spare each
// one without which there is still room: a big copy taken late may have made small ones taken early unnecessary.
// So no victim can be left out, though another choice might have been smaller. O(copies walked); fewer are walked when
// the iterable is lazy.

export interface EvictionCandidate<K> {
  readonly key: K;
  readonly lastUsedMs: number;
  readonly sizeBytes: number;
  /** Must stay: it is loading, leaving already, or wanted by its model's settings. */
  readonly pinned: boolean;
  /** How often it is used; 0 when absent. */
  readonly requestsPerSecond?: number;
}

export interface EvictionRequest<K> {
  readonly neededBytes: number;
  readonly freeBytes: number;
  /** Least recently used first. */
  readonly candidates: Iterable<EvictionCandidate<K>>;
  readonly nowMs: number;
  /** The anti-thrash age: a copy used more recently than this stays, unless a user waits. */
  readonly minAgeMs: number;
  readonly waitingUser: boolean;
  /** How often the newcomer is asked for; 0 when absent. */
  readonly requestsPerSecond?: number;
}

/** A copy that is used more often than this stays for those who are asked for less than half as often. */
const hotRate = 1;
const hotFactor = 2;

export type Eviction<K> =
  /** Least recently used first; empty when there is room already. */
  | { readonly kind: "ok"; readonly victims: readonly EvictionCandidate<K>[]; readonly freedBytes: number }
  /**
   * `too-young`: the copies that the anti-thrash age keeps would be enough, so waiting helps; `too-hot`: those that are
   * used much more than the newcomer would be; else `not-enough`.
   */
  | { readonly kind: "no-room"; readonly why: "too-young" | "too-hot" | "not-enough"; readonly reason: string };

export function chooseVictims<K>(request: EvictionRequest<K>): Eviction<K> {
  const { neededBytes, freeBytes, candidates, nowMs, minAgeMs, waitingUser } = request;
  const missingBytes = neededBytes - freeBytes;
  const hotFrom = Math.max(hotRate, (request.requestsPerSecond ?? 0) * hotFactor);
  if (missingBytes <= 0) return { kind: "ok", victims: [], freedBytes: 0 };

  const taken: EvictionCandidate<K>[] = [];
  let freedBytes = 0;
  let youngBytes = 0;
  let hotBytes = 0;
  let pinnedBytes = 0;
  for (const candidate of candidates) {
    // Evicting what has no size frees nothing.
    if (candidate.sizeBytes <= 0) continue;
    if (candidate.pinned) pinnedBytes += candidate.sizeBytes;
    else if ((candidate.requestsPerSecond ?? 0) > hotFrom) hotBytes += candidate.sizeBytes;
    else if (!waitingUser && nowMs - candidate.lastUsedMs < minAgeMs) youngBytes += candidate.sizeBytes;
    else {
      taken.push(candidate);
      freedBytes += candidate.sizeBytes;
      if (freedBytes >= missingBytes) return spare(taken, freedBytes, missingBytes);
    }
  }
  const tooYoung = freedBytes + youngBytes >= missingBytes;
  const tooHot = freedBytes + youngBytes + hotBytes >= missingBytes;
  const young = `${youngBytes} were used in the last ${minAgeMs} ms`;
  const kept = `${pinnedBytes} bytes are pinned, ${hotBytes} are used much more than it, ${young}`;
  return {
    kind: "no-room",
    why: tooYoung ? "too-young" : tooHot ? "too-hot" : "not-enough",
    reason: `${neededBytes} bytes are needed, ${freeBytes} are free and ${freedBytes} can be freed: ${kept}`,
  };
}

function spare<K>(taken: readonly EvictionCandidate<K>[], takenBytes: number, missingBytes: number): Eviction<K> {
  const victims: EvictionCandidate<K>[] = [];
  let freedBytes = takenBytes;
  for (const candidate of taken.toReversed()) {
    if (freedBytes - candidate.sizeBytes >= missingBytes) freedBytes -= candidate.sizeBytes;
    else victims.push(candidate);
  }
  return { kind: "ok", victims: victims.reverse(), freedBytes };
}
