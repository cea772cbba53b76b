// Owns signals with a deadline that are over before it. AbortSignal.timeout keeps its timer, and AbortSignal.any what it was
// made of, until the time has passed: with a deadline of minutes for calls of milliseconds that is most of a busy process's
// memory. This one lets go of everything when it is disposed.

export interface Deadline extends Disposable {
  readonly signal: AbortSignal;
}

/** Aborted with the first of the signals, or with a TimeoutError after `timeoutMs`. */
export function openDeadline(timeoutMs: number, ...signals: readonly AbortSignal[]): Deadline {
  const ended = new AbortController();
  const already = signals.find((signal) => signal.aborted);
  if (already !== undefined) ended.abort(already.reason);
  if (ended.signal.aborted) return { signal: ended.signal, [Symbol.dispose]: () => undefined };
  const listeners = signals.map((signal) => ({ signal, onAbort: () => end(signal.reason) }));
  const timer = setTimeout(
    () => end(new DOMException("The operation was aborted due to timeout", "TimeoutError")),
    Math.min(timeoutMs, 2 ** 31 - 1),
  ).unref();
  const letGo = (): void => {
    clearTimeout(timer);
    for (const { signal, onAbort } of listeners) signal.removeEventListener("abort", onAbort);
  };
  const end = (reason: unknown): void => {
    letGo();
    ended.abort(reason);
  };
  for (const { signal, onAbort } of listeners) signal.addEventListener("abort", onAbort);
  return { signal: ended.signal, [Symbol.dispose]: letGo };
}
