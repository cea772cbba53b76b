// Owns the rounds: each path in its turn, in another order each time, so that a noisy minute meets them all alike.
import type { PathName } from "./fleet.ts";
import type { LoadResult } from "./load/plan.ts";
import { orderOfRound } from "./stats.ts";

export type Samples = Readonly<Record<PathName, readonly LoadResult[]>>;

const paths: readonly PathName[] = ["hit", "static", "direct"];

/** Throws when a request failed: a figure over failures says nothing. */
export async function runRounds(
  rounds: number,
  run: (path: PathName) => Promise<LoadResult>,
  onRound: (round: number) => void,
): Promise<Samples> {
  const samples: Record<PathName, LoadResult[]> = { hit: [], static: [], direct: [] };
  for (let round = 0; round < rounds; round++) {
    for (const path of orderOfRound(paths, round)) {
      const result = await run(path);
      if (result.failed > 0) throw new Error(`${path}: ${result.failed} requests failed: ${result.reasons.join("; ")}`);
      if (result.requests === 0) throw new Error(`${path}: nothing was answered in ${result.seconds.toFixed(1)} s`);
      samples[path].push(result);
    }
    onRound(round + 1);
  }
  return samples;
}
