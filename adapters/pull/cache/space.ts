// Owns the bytes of the cache: what is used or promised, within one bound.
// Invariants: a promise is made whole or not at all; those that wait are served in turn; nobody who waits holds bytes that
// another one waits for.
import { PullError } from "../trouble.ts";

export interface Space {
  readonly usedBytes: number;
  /** At once, if there is room and nobody waits. */
  tryReserve(bytes: number): boolean;
  /** Waits until there is room; throws when there never will be. */
  reserve(bytes: number, signal: AbortSignal): Promise<void>;
  /** At once, or it throws. */
  grow(bytes: number): void;
  /** Without asking: it is there already. */
  use(bytes: number): void;
  free(bytes: number): void;
  /** Something may be evicted that could not before. */
  changed(): void;
  /** Brings what is there within the bound, as far as it can be. */
  trim(): void;
}

export function createSpace(maxBytes: number, evict: (bytes: number) => void): Space {
  let usedBytes = 0;
  const waiting: { readonly bytes: number; readonly go: () => void }[] = [];

  const makeRoom = (bytes: number): boolean => {
    const over = usedBytes + bytes - maxBytes;
    if (over > 0) evict(over);
    return usedBytes + bytes <= maxBytes;
  };
  const serve = (): void => {
    for (let first = waiting[0]; first !== undefined && makeRoom(first.bytes); first = waiting[0]) {
      usedBytes += first.bytes;
      waiting.shift();
      first.go();
    }
  };
  const tryReserve = (bytes: number): boolean => {
    if (waiting.length > 0 || !makeRoom(bytes)) return false;
    usedBytes += bytes;
    return true;
  };
  return {
    get usedBytes(): number {
      return usedBytes;
    },
    tryReserve,
    async reserve(bytes, signal): Promise<void> {
      signal.throwIfAborted();
      if (bytes > maxBytes) throw tooLarge(bytes, maxBytes);
      if (tryReserve(bytes)) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const place = { bytes, go: resolve };
      waiting.push(place);
      const onAbort = (): void => {
        const at = waiting.indexOf(place);
        if (at === -1) return;
        waiting.splice(at, 1);
        reject(signal.reason);
        serve();
      };
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        await promise;
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    },
    grow(bytes): void {
      if (!makeRoom(bytes)) throw tooLarge(usedBytes + bytes, maxBytes);
      usedBytes += bytes;
    },
    use(bytes): void {
      usedBytes += bytes;
    },
    free(bytes): void {
      usedBytes -= bytes;
      serve();
    },
    changed: serve,
    trim(): void {
      makeRoom(0);
    },
  };
}

function tooLarge(bytes: number, maxBytes: number): PullError {
  return new PullError("too-large", `the artefact needs ${bytes} bytes of this pod's disk cache, which has ${maxBytes}`);
}
