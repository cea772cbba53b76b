// Starts one adapter: the entry for whoever makes a process of it.
import { keepHeapSmall } from "#platform/heap.ts";

/** Runs until the signal is aborted, then drains. */
export async function startAdapter(argv: readonly string[], signal: AbortSignal, stack: AsyncDisposableStack): Promise<void> {
  // What the adapter takes is taken from the models of its pod: before it is read, which would have the heap grow for good.
  keepHeapSmall();
  const { runAdapter } = await import("./run.ts");
  await runAdapter(argv, signal, stack);
}
