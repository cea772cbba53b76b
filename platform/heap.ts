// Owns how much of a process's memory its heap may waste.
import { setFlagsFromString } from "node:v8";

/**
 * Keeps the young generation of this process's heap at 2 MiB; V8 lets it grow to 32 MiB, and as much again beside it. What
 * outlives so small a one is more than what is kept, so the old generation is collected once it has grown by a quarter; V8
 * would let it grow to three times as much. For processes whose memory is wanted for something else. To be called before
 * much is allocated.
 */
export function keepHeapSmall(): void {
  setFlagsFromString("--max-semi-space-size=2");
  setFlagsFromString("--semi-space-growth-factor=1");
  setFlagsFromString("--heap-growing-percent=25");
}
