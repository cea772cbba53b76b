// Owns the suspicion that a model kills the model servers that load it.
// A model server that dies takes all loads under way with it, and only one of them is to blame: each death counts for
// each of them by its share. A suspect is kept off the pods once it was there at two deaths that hardly can be others'
// fault, or at three; then for a while, twice as long each time, so at most one pod an hour is lost to it in the end.
// Invariants: a load that ends well clears the suspicion; memory is bounded, the oldest suspects are forgotten first.

export interface Suspicions {
  /** It was loading where a model server died, together with `suspects - 1` others. */
  died(key: string, podId: string, suspects: number, nowMs: number): void;
  cleared(key: string): void;
  /** Until when it is kept off the pods, and after which deaths; undefined when it is not. */
  check(key: string, nowMs: number): Quarantine | undefined;
  readonly size: number;
}

export interface Quarantine {
  readonly untilMs: number;
  readonly podIds: readonly string[];
}

interface Suspect {
  podIds: readonly string[];
  deaths: number;
  blame: number;
  quarantines: number;
  untilMs: number;
}

const deathsForSure = 3;
const deathsAtLeast = 2;
const blameEnough = 1.5;
const firstMs = 5 * 60_000;
const longestMs = 60 * 60_000;
const maxPods = 8;

export function createSuspicions(options: { readonly maxSuspects: number }): Suspicions {
  const suspects = new Map<string, Suspect>();
  return {
    died(key, podId, count, nowMs) {
      const known = suspects.get(key) ?? { podIds: [], deaths: 0, blame: 0, quarantines: 0, untilMs: 0 };
      // Deleted first, so that the map's order is the order of deaths.
      suspects.delete(key);
      suspects.set(key, known);
      known.podIds = [...known.podIds.filter((id) => id !== podId), podId].slice(-maxPods);
      known.deaths += 1;
      known.blame += 1 / Math.max(1, count);
      if (known.deaths >= deathsForSure || (known.deaths >= deathsAtLeast && known.blame >= blameEnough)) {
        known.untilMs = nowMs + Math.min(longestMs, firstMs * 2 ** known.quarantines);
        known.quarantines += 1;
      }
      const oldest = suspects.keys().next().value;
      if (suspects.size > options.maxSuspects && oldest !== undefined) suspects.delete(oldest);
    },
    cleared: (key) => void suspects.delete(key),
    check(key, nowMs) {
      const known = suspects.get(key);
      return known !== undefined && nowMs < known.untilMs ? { untilMs: known.untilMs, podIds: known.podIds } : undefined;
    },
    get size() {
      return suspects.size;
    },
  };
}
