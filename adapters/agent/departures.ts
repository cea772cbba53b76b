// Owns the way of copies from `leaving` to unloaded: withdraw, wait for the gateways, unload with bounded concurrency.
//
//   withdrawn --all gateways acked, detached or timed out--> due --slot free--> unloading --done--> (forgotten)
//                                                             ^                     |
//                                                             +--- pause over ------+ failed
//
// Invariants: an unload starts only after every gateway that was attached at the withdrawal (or attached later and was
// told) acked it, detached, or the timeout passed; each key is in one place. A failed unload is tried again at growing
// pauses for as long as the model server lives: its memory is in use until then.

export interface Withdrawal {
  readonly sequence: number;
  readonly keys: readonly string[];
}

export interface Departures {
  begin(withdrawal: Withdrawal, gateways: Iterable<string>, nowMs: number): void;
  acked(gatewayId: string, sequence: number): void;
  /** Withdrawals that nobody knows to be over: the gateway must be told of them, and is waited for as well. */
  attached(gatewayId: string): readonly Withdrawal[];
  detached(gatewayId: string): void;
  unloaded(key: string): void;
  unloadFailed(key: string, nowMs: number): void;
  /** The keys whose unload starts now. */
  takeDue(nowMs: number): readonly string[];
  /** The next time at which takeDue may have more to say. */
  nextDueMs(): number | undefined;
  /** The model server is gone, and all its copies with it. */
  clear(): void;
}

export interface DeparturesOptions {
  readonly withdrawTimeoutMs: number;
  readonly unloadConcurrency: number;
}

interface Waiting extends Withdrawal {
  readonly gateways: Set<string>;
  readonly deadlineMs: number;
}

const firstPauseMs = 500;
const longestPauseMs = 30_000;

export function createDepartures(options: DeparturesOptions): Departures {
  // In the order of their sequence, and so of their deadlines.
  const waiting = new Map<number, Waiting>();
  const due: string[] = [];
  const unloading = new Set<string>();
  const failures = new Map<string, number>();
  const paused = new Map<string, number>();

  const finish = (withdrawal: Waiting): void => {
    waiting.delete(withdrawal.sequence);
    due.push(...withdrawal.keys);
  };
  const release = (withdrawal: Waiting, gatewayId: string): void => {
    withdrawal.gateways.delete(gatewayId);
    if (withdrawal.gateways.size === 0) finish(withdrawal);
  };

  return {
    begin(withdrawal, gateways, nowMs): void {
      const entry = { ...withdrawal, gateways: new Set(gateways), deadlineMs: nowMs + options.withdrawTimeoutMs };
      if (entry.gateways.size === 0) finish(entry);
      else waiting.set(entry.sequence, entry);
    },
    acked(gatewayId, sequence): void {
      const withdrawal = waiting.get(sequence);
      if (withdrawal !== undefined) release(withdrawal, gatewayId);
    },
    attached(gatewayId): readonly Withdrawal[] {
      for (const withdrawal of waiting.values()) withdrawal.gateways.add(gatewayId);
      return [...waiting.values()];
    },
    detached(gatewayId): void {
      for (const withdrawal of Array.from(waiting.values())) release(withdrawal, gatewayId);
    },
    unloaded(key): void {
      unloading.delete(key);
      failures.delete(key);
    },
    unloadFailed(key, nowMs): void {
      if (!unloading.delete(key)) return;
      const failed = failures.get(key) ?? 0;
      failures.set(key, failed + 1);
      paused.set(key, nowMs + Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(failed, 10)));
    },
    takeDue(nowMs): readonly string[] {
      for (const withdrawal of Array.from(waiting.values())) {
        if (withdrawal.deadlineMs > nowMs) break;
        finish(withdrawal);
      }
      for (const [key, untilMs] of Array.from(paused)) {
        if (untilMs > nowMs) continue;
        paused.delete(key);
        due.push(key);
      }
      const taken = due.splice(0, Math.max(0, options.unloadConcurrency - unloading.size));
      for (const key of taken) unloading.add(key);
      return taken;
    },
    nextDueMs(): number | undefined {
      const [first] = waiting.values();
      const times = [...paused.values()];
      if (first !== undefined) times.push(first.deadlineMs);
      return times.length === 0 ? undefined : Math.min(...times);
    },
    clear(): void {
      waiting.clear();
      due.length = 0;
      unloading.clear();
      failures.clear();
      paused.clear();
    },
  };
}
