// Owns how many bytes copies may take in all: the capacity, and no more than keeps the model server below the memory limit, as
// far as that can be seen. Pure.
//
// What was held at once with the server below what is aimed at can be held again; and as much more as is left to that. The
// server does not give freed memory back, so only a new peak tells anything against that: below the aim the room shrinks
// towards what is left, beyond it in the measure in which it was exceeded. A single peak costs a small part, since it may be of
// a load that needed more for a moment. The aim stays clear of the limit by what loads need for a moment and what allocators
// lose between copies; a server that is beyond the limit all the same has its room shrink with every look, down to a half, and
// no load begins while copies leave for that. So wrong sizes cost copies, and not the limit.
import type { ServerLimits } from "../drivers/driver.ts";

export interface Allowance {
  /** What the model server says of itself, in this life. */
  told(limits: ServerLimits): void;
  /** The model server takes so much now; its copies, without those being loaded, are thought to take so much. */
  seen(bytes: number, accountedBytes: number): void;
  /** Sizes of copies that were guessed are known better now: what they said of the room counts no more. */
  repriced(): void;
  /** There was no memory left with copies that are thought to take so much. */
  overdrawn(accountedBytes: number): void;
  /** A load went well. */
  loaded(): void;
  /** Another process will come. */
  lost(): void;
  readonly bytes: number;
  /** The model server takes more than its limit. */
  readonly exceeded: boolean;
  /** By how much a new peak went beyond the limit, told once: copies of so many bytes are to leave. */
  takeOwed(): number;
  /** Nothing larger is ever taken. */
  readonly capacityBytes: number;
  /** Loads at a time. */
  readonly loadConcurrency: number;
}

export interface AllowanceOptions {
  readonly capacityBytes: number;
  readonly loadConcurrency: number;
  /** What the model server says of itself counts, and does not only bound what is said here. */
  readonly serverLimits?: boolean | undefined;
  /** Of the whole model server; none when undefined. */
  readonly memoryLimitBytes?: number | undefined;
}

/** Of the limit: smaller growth is no new peak. */
const noisePart = 0.01;
/** Of what the limit leaves to copies: what is aimed at. */
const aimPart = 0.8;
/** What a look at a server beyond its limit costs, and what is left of the room at least. */
const debtPart = 0.98;
const leastPart = 0.5;
/** What is left of what was thought to be taken when memory ran out; of the capacity at least a half; and what a load gives back. */
const overdrawnPart = 0.9;
const givenBackPart = 0.002;
/** What one peak may cost at most, where it says little of what is held. */
const keptPart = 0.9;

export function createAllowance(options: AllowanceOptions): Allowance {
  const { capacityBytes, loadConcurrency, memoryLimitBytes, serverLimits = false } = options;
  let limits: ServerLimits = {};
  let room: number | undefined;
  /** What it takes without any copy, where that was seen. */
  let emptyBytes = 0;
  let peakBytes = 0;
  let nowBytes = 0;
  let owedBytes = 0;
  let isStale = false;
  /** What memory that ran out has left of the capacity. */
  let ceilingPart = 1;
  const agreed = (own: number, told: number | undefined): number => (serverLimits ? (told ?? own) : Math.min(own, told ?? own));
  const capacity = (): number => agreed(capacityBytes, limits.capacityBytes);

  const allowed = (): number => {
    const mostBytes = Math.floor(ceilingPart * capacity());
    return room === undefined ? mostBytes : Math.max(0, Math.min(mostBytes, Math.floor(room)));
  };

  /** No new peak: it tells only of what is free, or still owed. */
  const settle = (accountedBytes: number, leftBytes: number, limitBytes: number, before: number): number => {
    if (leftBytes > 0) return Math.max(before, accountedBytes + leftBytes);
    if (nowBytes <= limitBytes) return before;
    return Math.max(debtPart * before, Math.min(before, leastPart * (limitBytes - emptyBytes)));
  };

  return {
    told(next): void {
      limits = next;
    },
    seen(bytes, accountedBytes): void {
      nowBytes = bytes;
      if (memoryLimitBytes === undefined) return;
      if (room === undefined && peakBytes === 0) emptyBytes = Math.max(0, bytes - accountedBytes);
      const aimBytes = emptyBytes + aimPart * Math.max(0, memoryLimitBytes - emptyBytes);
      const leftBytes = aimBytes - bytes;
      const isPeak = bytes > peakBytes + noisePart * memoryLimitBytes;
      if (isPeak) {
        owedBytes = Math.max(0, bytes - Math.max(memoryLimitBytes, peakBytes));
        peakBytes = bytes;
      }
      if (room === undefined || isStale) room = Math.max(0, accountedBytes + leftBytes);
      else if (!isPeak) room = settle(accountedBytes, leftBytes, memoryLimitBytes, room);
      else if (leftBytes >= 0) room = Math.max(accountedBytes + leftBytes, keptPart * room);
      else if (accountedBytes >= room / 2) {
        room = Math.min(room, accountedBytes * Math.max(0.5, (aimBytes - emptyBytes) / (bytes - emptyBytes)));
      } else room *= keptPart;
      isStale = false;
    },
    repriced(): void {
      isStale = true;
    },
    overdrawn(accountedBytes): void {
      const bytes = allowed();
      // With little held, it was the load alone.
      if (accountedBytes >= bytes / 2 && accountedBytes <= bytes)
        ceilingPart = Math.max(leastPart, (overdrawnPart * accountedBytes) / capacity());
    },
    loaded(): void {
      ceilingPart = Math.min(1, ceilingPart + givenBackPart);
    },
    lost(): void {
      room = undefined;
      emptyBytes = 0;
      peakBytes = 0;
      nowBytes = 0;
      owedBytes = 0;
    },
    get bytes(): number {
      return allowed();
    },
    get exceeded(): boolean {
      return memoryLimitBytes !== undefined && nowBytes > memoryLimitBytes;
    },
    takeOwed(): number {
      const owed = owedBytes;
      owedBytes = 0;
      return owed;
    },
    get capacityBytes(): number {
      return capacity();
    },
    get loadConcurrency(): number {
      return Math.max(1, agreed(loadConcurrency, limits.loadConcurrency));
    },
  };
}
