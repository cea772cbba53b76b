// Owns the Python environment of the stock clients, and running their cases.
import { run } from "../harness/kept.ts";
import { environmentPython } from "../harness/python.ts";

/** The interpreter of an environment that has the clients. */
export async function clientPython(): Promise<string> {
  return await environmentPython("clients", new URL("requirements.txt", import.meta.url).pathname);
}

export interface CaseResult {
  readonly case: string;
  readonly ok: boolean;
  readonly saw: string | null;
}

/** Runs a script of cases and gives what it told of each. */
export async function runCases(python: string, script: string, args: readonly string[]): Promise<readonly CaseResult[]> {
  const output = await run(python, [new URL(script, import.meta.url).pathname, ...args], { mayFail: true });
  return output.split("\n").flatMap((line) => (line.startsWith('{"case"') ? [JSON.parse(line) as CaseResult] : []));
}
