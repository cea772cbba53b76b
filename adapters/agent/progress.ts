// Owns the telling of a pull that moves from one that stands still or trickles.

export interface Progress extends Disposable {
  moved(bytes: number): void;
}

export interface ProgressOptions {
  /** How often it is looked at; 1 s when absent. */
  readonly everyMs?: number;
  /** What has to come between two looks; 64 KiB when absent. */
  readonly leastBytes?: number;
  readonly onStall: (stalled: boolean) => void;
}

/** It moves at first. */
export function watchProgress({ everyMs = 1_000, leastBytes = 64 * 1024, onStall }: ProgressOptions): Progress {
  let bytes = 0;
  let stalled = false;
  const timer = setInterval(() => {
    const stands = bytes < leastBytes;
    bytes = 0;
    if (stands === stalled) return;
    stalled = stands;
    onStall(stalled);
  }, everyMs);
  return {
    moved(more) {
      bytes += more;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
