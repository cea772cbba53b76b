// Owns what people see while a command waits: nothing for the first second, then one live line on standard error, which is
// gone at the end. On no terminal, and for programs, nothing at all.
import type { Terminal } from "./context.ts";

/** Told at each look: how much of the whole is done, from 0 to 1, if that is known, and what goes on. */
export interface Progress {
  readonly share?: number | undefined;
  readonly says: string;
}

const silentMs = 1_000;
const lookMs = 500;
const barWidth = 24;

/** Resolves and rejects as `work` does. `look` may fail: then the line says what it said before. */
export async function withProgress<T>(terminal: Terminal, work: Promise<T>, look: () => Promise<Progress>): Promise<T> {
  const { progress } = terminal;
  if (progress === undefined) return await work;
  const startMs = performance.now();
  let last: Progress = { says: "" };
  let over = false;
  let timer: NodeJS.Timeout | undefined;
  const draw = async (): Promise<void> => {
    last = await look().catch(() => last);
    // It may have ended while this looked.
    if (over) return;
    progress(formatProgress(last, performance.now() - startMs, terminal.width));
    timer = setTimeout(() => void draw(), lookMs);
  };
  timer = setTimeout(() => void draw(), silentMs);
  try {
    return await work;
  } finally {
    over = true;
    clearTimeout(timer);
    progress("");
  }
}

export function formatProgress({ share, says }: Progress, elapsedMs: number, width: number): string {
  const seconds = Math.floor(elapsedMs / 1_000);
  const filled = share === undefined ? undefined : Math.round(Math.min(1, Math.max(0, share)) * barWidth);
  // What nobody knows the length of moves to and fro.
  const at = Math.abs(((seconds * 2) % (2 * (barWidth - 3))) - (barWidth - 3));
  const bar =
    filled === undefined
      ? `${"░".repeat(at)}███${"░".repeat(barWidth - 3 - at)}`
      : `${"█".repeat(filled)}${"░".repeat(barWidth - filled)}`;
  return `${bar} ${says}${says === "" ? "" : ", "}${seconds} s`.slice(0, Math.max(20, width - 1));
}
