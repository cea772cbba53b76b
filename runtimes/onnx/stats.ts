// Owns the counters of this process, one for all its servers.
export interface Counters {
  /** Inference requests, by any protocol. */
  requests: number;
  /** Refusals and faults told to clients, of any kind of request. */
  errors: number;
}

export function createCounters(): Counters {
  return { requests: 0, errors: 0 };
}
