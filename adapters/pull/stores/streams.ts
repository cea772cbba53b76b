// Owns how streams of storage clients end: at the signal, which many of them forget once the answer has begun.
import type { Readable } from "node:stream";

export function endAtSignal(stream: Readable, signal: AbortSignal): Readable {
  const onAbort = (): void => void stream.destroy();
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  stream.once("close", () => signal.removeEventListener("abort", onAbort));
  // Whoever reads is told as well; without a reader an error must not end the process.
  stream.on("error", () => undefined);
  // Google's client adds more of its own than is usual.
  stream.setMaxListeners(32);
  return stream;
}
