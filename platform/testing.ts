// Owns what tests of all folders share: waiting for a condition instead of sleeping, and a log that can be read.
import { sleep } from "./clock.ts";
import type { Log, LogKeys } from "./log.ts";

export interface WaitOptions {
  /** 30 s when absent. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The first value of `condition` that is neither false nor undefined; an error once the time is over. */
export async function waitFor<T>(
  condition: () => T | false | undefined | Promise<T | false | undefined>,
  options: WaitOptions = {},
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 30_000;
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value !== false && value !== undefined) return value;
    if (performance.now() > endMs)
      throw new Error(`the condition did not hold within ${timeoutMs} ms: ${condition.toString().slice(0, 200)}`);
    await sleep(5, options.signal);
  }
}

export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly keys: LogKeys;
}

export interface RecordingLog extends Log {
  readonly lines: readonly LogLine[];
}

/** A log that keeps its lines for assertions. */
export function createRecordingLog(): RecordingLog {
  const lines: LogLine[] = [];
  return Object.assign(recorder(lines, {}), { lines });
}

function recorder(lines: LogLine[], own: LogKeys): Log {
  const at =
    (level: LogLine["level"]) =>
    (message: string, keys: LogKeys = {}): void => {
      lines.push({ level, message, keys: { ...own, ...keys } });
    };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    with: (keys) => recorder(lines, { ...own, ...keys }),
  };
}
