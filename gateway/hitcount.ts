// Owns the number of hits since this gateway began, which is the time that it counts misses for. Envoy's counters outlive a
// gateway, and begin anew with Envoy. Pure.
// Invariants: what Envoy had counted before the gateway began is left out; what it counted before it was itself started anew
// stays in, up to the last reading.

/**
 * What Envoy says now, `asked` being all that is no hit; `absent`: there is none, so that all it will ever count is to come;
 * undefined: it did not say.
 */
export type HitReading = { readonly requests: number; readonly asked: number } | "absent" | undefined;

export interface HitCount {
  /** The hits until then; undefined without a reading. */
  read(reading: HitReading): number | undefined;
}

export function createHitCount(): HitCount {
  let last: { readonly requests: number; readonly asked: number } | undefined;
  let requests = 0;
  let asked = 0;
  return {
    read(reading) {
      if (reading === undefined) return undefined;
      if (reading === "absent") {
        last ??= { requests: 0, asked: 0 };
        return undefined;
      }
      const base = last ?? reading;
      // Requests never become fewer, but in another Envoy. Hits may by some: a request is counted a moment before Envoy asks.
      const isNew = reading.requests < base.requests;
      requests += reading.requests - (isNew ? 0 : base.requests);
      asked += reading.asked - (isNew ? 0 : base.asked);
      last = reading;
      return Math.max(0, requests - asked);
    },
  };
}
