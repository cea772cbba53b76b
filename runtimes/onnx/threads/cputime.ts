// Owns how long a run computed. Other processes and a container's quota may stop a thread for a hundred milliseconds, so
// what looks long by the clock is judged by the processor time of the thread.
// Asking for that takes over a microsecond, as much as 2 % of a request: so the mark from which it is counted may be as
// old as a millisecond, and what may have been used before the run is taken off.

/** For one thread; the time between start and stop must hold no turn of the event loop. */
export interface Stopwatch {
  /** How often it was started. */
  readonly starts: number;
  readonly start: () => void;
  /** Milliseconds since the start: at most those of the clock, and exact to one when it was long. */
  stop(): number;
}

const maxAgeMs = 1;
/** Shorter runs are not worth the question. */
const shortMs = 1;

export function createStopwatch(): Stopwatch {
  let mark = process.threadCpuUsage();
  let markAtMs = performance.now();
  let startMs = markAtMs;
  let starts = 0;
  return {
    get starts(): number {
      return starts;
    },
    start: (): void => {
      starts += 1;
      startMs = performance.now();
      if (startMs - markAtMs <= maxAgeMs) return;
      mark = process.threadCpuUsage();
      markAtMs = startMs;
    },
    stop(): number {
      const elapsedMs = performance.now() - startMs;
      if (elapsedMs < shortMs) return elapsedMs;
      const { user, system } = process.threadCpuUsage(mark);
      return Math.max(0, Math.min(elapsedMs, (user + system) / 1_000 - (startMs - markAtMs)));
    },
  };
}
