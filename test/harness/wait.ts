// Owns waiting for a condition with a failure that tells what was seen instead.
import { inspect } from "node:util";
import { sleep } from "#platform/clock.ts";

/** As on a machine that is busy with other things, too. */
const patienceMs = 60_000;
const pollMs = 10;

/** Reads until `holds` is true of what was read, and returns that. The error names the last value. */
export async function waitUntil<T>(
  what: string,
  read: () => T | Promise<T>,
  holds: (value: T) => boolean,
  timeoutMs = patienceMs,
): Promise<T> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const value = await read();
    if (holds(value)) return value;
    if (performance.now() > endMs) {
      throw new Error(`${what}: not within ${timeoutMs} ms; last seen: ${inspect(value, { depth: 4, breakLength: 130 })}`);
    }
    await sleep(pollMs);
  }
}
