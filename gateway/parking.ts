// Owns the requests that wait for a flight: each is answered once, at its deadline at the latest, or when its client goes.
import type { Clock } from "#platform/clock.ts";
import type { Ensured, Flight, Waiter } from "./flight.ts";
import type { Held } from "./quotas.ts";
import type { Step } from "./spans.ts";

export interface Parking {
  /** Resolves with the end of the flight, or of the request. */
  wait(flight: Flight, options: WaitOptions, step: Step, parked: Held | undefined): Promise<Ensured>;
  readonly waiting: number;
}

export interface WaitOptions {
  /** On the clock's monotonic scale. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/** `onEmpty`: nobody waits for the flight any more. */
export function createParking(clock: Pick<Clock, "monotonicMs">, onEmpty: (flight: Flight) => void): Parking {
  let waiting = 0;

  function leave(flight: Flight, waiter: Waiter): void {
    if (!flight.waiters.delete(waiter)) return;
    waiting -= 1;
    if (flight.waiters.size === 0) onEmpty(flight);
  }

  async function wait(flight: Flight, options: WaitOptions, step: Step, parked: Held | undefined): Promise<Ensured> {
    const { promise, resolve } = Promise.withResolvers<Ensured>();
    const arrivedMs = clock.monotonicMs();
    const waiter: Waiter = { arrivedMs, deadlineMs: options.deadlineMs, answer: resolve };
    flight.waiters.add(waiter);
    waiting += 1;
    const late = setTimeout(
      () => resolve({ kind: "failed", code: "deadline-exceeded", reason: `model '${flight.model.name}' was not ready in time` }),
      Math.max(0, options.deadlineMs - arrivedMs),
    );
    const gone = (): void => resolve({ kind: "failed", code: "cancelled", reason: "the client went away" });
    options.signal.addEventListener("abort", gone, { once: true });
    try {
      const result = await promise;
      step.end(result.kind === "failed" ? result.code : undefined);
      return result;
    } finally {
      clearTimeout(late);
      options.signal.removeEventListener("abort", gone);
      leave(flight, waiter);
      parked?.release();
    }
  }

  return {
    wait,
    get waiting() {
      return waiting;
    },
  };
}
