// Owns which failed files get a second run, and what counts after it (docs/decisions/0069).
import type { FileRun } from "./file.ts";
import { countResults } from "./tally.ts";

/** More failed files than this are no accident of the machine. */
const maxSecondRuns = 3;
/** A file that took longer was killed or hung: that is what failed, and the run has no time to see it twice. */
const maxFirstRunMs = 300_000;

/** A test that failed beside others and passed alone. */
export interface Unsteady {
  readonly file: string;
  readonly tests: readonly string[];
}

/** The files to run again, alone, in the order in which they failed. None when too many failed. */
export function deservesSecondRun(runs: readonly FileRun[]): readonly string[] {
  const failed = runs.filter(hasFailed);
  if (failed.length > maxSecondRuns || failed.some((run) => run.durationMs > maxFirstRunMs)) return [];
  return failed.map((run) => run.file);
}

/** What counts: the second run of a file where there was one. What failed in the first and not in it is unsteady. */
export function settle(
  firstRuns: readonly FileRun[],
  secondRuns: readonly FileRun[],
): { readonly done: readonly FileRun[]; readonly unsteady: readonly Unsteady[] } {
  const second = new Map(secondRuns.map((run) => [run.file, run]));
  const unsteady = firstRuns.flatMap((run) => {
    const later = second.get(run.file);
    if (later === undefined || hasFailed(later)) return [];
    return [{ file: run.file, tests: run.results.filter(({ kind }) => kind === "failed").map(({ name }) => name) }];
  });
  return { done: firstRuns.map((run) => second.get(run.file) ?? run), unsteady };
}

function hasFailed(run: FileRun): boolean {
  return countResults(run.results).failed > 0;
}
