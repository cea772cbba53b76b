// Owns the looking up of artefacts before their loads: how many at a time, and which of them stand still.
// Invariant: one may outlive the ask that wanted it, so their number is bounded by itself.

export interface Probes {
  /** False: it is under way already, or too many are. */
  begin(key: string, nowMs: number): boolean;
  end(key: string): void;
  /** Asks that wait for these take no place among those in hand. */
  stalled(nowMs: number): number;
  /** When one more will stand still. */
  nextStallMs(nowMs: number): number | undefined;
}

/** A store that answers does so sooner. */
const stallMs = 1_000;

export function createProbes(maxProbes: number): Probes {
  /** Since when, in that order. */
  const probes = new Map<string, number>();
  return {
    begin(key, nowMs) {
      if (probes.has(key) || probes.size >= maxProbes) return false;
      probes.set(key, nowMs);
      return true;
    },
    end: (key) => void probes.delete(key),
    stalled(nowMs) {
      let stalled = 0;
      for (const sinceMs of probes.values()) {
        if (nowMs - sinceMs < stallMs) break;
        stalled += 1;
      }
      return stalled;
    },
    nextStallMs(nowMs) {
      for (const sinceMs of probes.values()) if (nowMs - sinceMs < stallMs) return sinceMs + stallMs;
      return undefined;
    },
  };
}
