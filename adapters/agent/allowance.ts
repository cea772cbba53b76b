// Owns how many bytes copies may take in all: the capacity, and no more than keeps the model server below the memory limit, as
// far as that can be seen. Pure.
//
// What was held at once with the server below its limit can be held again; and as much more as is left to the limit. The server
// does not give freed memory back, so only a new peak tells anything against that: below the limit the room shrinks towards
// what is left, beyond it in the measure in which it was exceeded. A single peak costs a small part, since it may be of a load
// that needed more for a moment. So wrong sizes cost copies, and hardly ever more than one load's memory beyond the limit.
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

/** Of the limit: smaller growth is no new peak. */
const noisePart = 0.01;
/** What one peak may cost at most, where it says little of what is held. */
const keptPart = 0.95;

export function createAllowance({ capacityBytes, loadConcurrency, memoryLimitBytes }: AllowanceOptions): Allowance {
  let limits: ServerLimits = {};
  let room: number | undefined;
  /** What it takes without any copy, where that was seen. */
  let emptyBytes = 0;
  let peakBytes = 0;
  const capacity = (): number => Math.min(capacityBytes, limits.capacityBytes ?? capacityBytes);
  return {
    told(next): void {
      limits = next;
    },
    seen(bytes, accountedBytes): void {
      if (memoryLimitBytes === undefined) return;
      const leftBytes = memoryLimitBytes - bytes;
      if (room === undefined) {
        emptyBytes = accountedBytes === 0 ? bytes : 0;
        peakBytes = bytes;
        room = Math.max(0, accountedBytes + leftBytes);
        return;
      }
      const isPeak = bytes > peakBytes + noisePart * memoryLimitBytes;
      if (isPeak) peakBytes = bytes;
      if (!isPeak) {
        if (leftBytes > 0) room = Math.max(room, accountedBytes + leftBytes);
      } else if (leftBytes >= 0) {
        room = Math.max(accountedBytes + leftBytes, keptPart * room);
      } else if (accountedBytes >= room / 2) {
        room = Math.min(room, accountedBytes * Math.max(0.5, (memoryLimitBytes - emptyBytes) / (bytes - emptyBytes)));
      } else room *= keptPart;
    },
    lost(): void {
      room = undefined;
      emptyBytes = 0;
      peakBytes = 0;
    },
    get bytes(): number {
      return room === undefined ? capacity() : Math.max(0, Math.min(capacity(), Math.floor(room)));
    },
    get capacityBytes(): number {
      return capacity();
    },
    get loadConcurrency(): number {
      return Math.max(1, Math.min(loadConcurrency, limits.loadConcurrency ?? loadConcurrency));
    },
  };
}
