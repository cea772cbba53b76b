// Owns the run of a command of ours whose last line of output is its result.
import { superviseProcess } from "#platform/process.ts";

/** Throws when it does not end well; what it says meanwhile is passed on. */
export async function runCommand(
  name: string,
  args: readonly string[],
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<string> {
  let last = "";
  const { promise: ended, resolve } = Promise.withResolvers<number | null>();
  await using child = superviseProcess({
    name,
    command: process.execPath,
    args,
    restart: { kind: "never" },
    graceMs: 30_000,
    signal,
    onOutput: (line, stream) => {
      if (stream === "stdout") last = line;
      else say(line);
    },
    onExit: ({ code }) => resolve(code),
  });
  await child.ready;
  const code = await ended;
  signal.throwIfAborted();
  if (code !== 0)
    throw new Error(`${name} ended with exit code ${code ?? "none"}${last === "" ? "" : `: ${last.slice(0, 300)}`}`);
  return last;
}
