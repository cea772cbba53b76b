// Owns how many bytes copies may take in all: the capacity, and no more than the memory limit leaves beside what the model
// server takes for itself, as far as that can be seen. Pure.
//
//   allowed = (limit - own) x most accounted / (peak - own)          the fraction counts where it is below 1
//
// - `own` is what the server takes without copies (code, libraries). What it grows by beyond its copies' sizes is its own
//   while it holds little, since libraries come with first loads; once it holds much, it is the sizes that are too small.
// - Memory that was freed is not given back: only a new peak says something, beside the most that was ever accounted for.
// So wrong sizes cost copies, and hardly ever more than one load's memory beyond the limit.
import type { ServerLimits } from "../drivers/driver.ts";

export interface Allowance {
  /** What the model server says of itself, in this life. */
  told(limits: ServerLimits): void;
  /** The model server takes so much now; its copies, and those being loaded, are thought to take so much. */
  seen(bytes: number, accountedBytes: number): void;
  /** Another process will come. */
  lost(): void;
  readonly bytes: number;
  /** Nothing larger is ever taken. */
  readonly capacityBytes: number;
  /** Loads at a time. */
  readonly loadConcurrency: number;
}

export interface AllowanceOptions {
  readonly capacityBytes: number;
  readonly loadConcurrency: number;
  /** Of the whole model server; none when undefined. */
  readonly memoryLimitBytes?: number | undefined;
}

const littlePart = 0.5;
const fadingPart = 0.9;

export function createAllowance({ capacityBytes, loadConcurrency, memoryLimitBytes }: AllowanceOptions): Allowance {
  let limits: ServerLimits = {};
  let own: number | undefined;
  /** What it took without any copy, where that was seen. */
  let emptyBytes = 0;
  let peakBytes = 0;
  let mostAccounted = 0;
  const capacity = (): number => Math.min(capacityBytes, limits.capacityBytes ?? capacityBytes);
  return {
    told(next): void {
      limits = next;
    },
    seen(bytes, accountedBytes): void {
      if (accountedBytes === 0 && own === undefined) emptyBytes = bytes;
      // Sizes that are too large would make it look smaller than it is.
      const beyondBytes = Math.max(emptyBytes, bytes - accountedBytes);
      const holdsLittle = own === undefined || accountedBytes < littlePart * ((memoryLimitBytes ?? Infinity) - own);
      if (own === undefined || beyondBytes < own || (bytes > peakBytes && holdsLittle)) own = beyondBytes;
      // Sizes may have been learned anew since the last peak; one peak that came with little says little.
      mostAccounted = Math.max(accountedBytes, (bytes > peakBytes ? fadingPart : 1) * mostAccounted);
      peakBytes = Math.max(peakBytes, bytes);
    },
    lost(): void {
      own = undefined;
      emptyBytes = 0;
      peakBytes = 0;
      mostAccounted = 0;
    },
    get bytes(): number {
      if (memoryLimitBytes === undefined || own === undefined) return capacity();
      const grownBytes = peakBytes - own;
      const fit = grownBytes > mostAccounted ? mostAccounted / grownBytes : 1;
      return Math.max(0, Math.min(capacity(), Math.floor((memoryLimitBytes - own) * fit)));
    },
    get capacityBytes(): number {
      return capacity();
    },
    get loadConcurrency(): number {
      return Math.max(1, Math.min(loadConcurrency, limits.loadConcurrency ?? loadConcurrency));
    },
  };
}
