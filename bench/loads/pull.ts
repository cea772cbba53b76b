// Owns the comparison of a pull with the provider's own client alone: the same objects of a real server of Google's API, to
// the same disk, in turns.
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { Storage } from "@google-cloud/storage";
import { openPullBench } from "#adapters/pull/testing/bench.ts";
import { openFakeGcs } from "#test/storage/servers.ts";
import { medianRatio, orderOfRound } from "../stats.ts";

const objectBytes = 64 * 2 ** 20;

/** How fast the puller is for each of the client: 1 is as fast. */
export async function measurePulls(rounds: number, signal: AbortSignal, say: (line: string) => void): Promise<number> {
  await using server = await openFakeGcs();
  await using bench = await openPullBench({ maxBytes: 2 * objectBytes });
  const client = new Storage({ apiEndpoint: server.url, projectId: "bench", useAuthWithCustomEndpoint: false });
  await client.createBucket("models");
  await bench.setEntry("default_gcs", { type: "gcs", endpoint_url: server.url });
  const times: Record<"client" | "puller", number[]> = { client: [], puller: [] };
  for (let round = 0; round <= rounds; round++) {
    signal.throwIfAborted();
    // Another content each time: the cache knows none of them.
    const object = client.bucket("models").file(`model-${round}`);
    await object.save(randomBytes(objectBytes), { resumable: false });
    for (const who of orderOfRound(["client", "puller"] as const, round)) {
      const startMs = performance.now();
      if (who === "client") await object.download({ destination: join(bench.folder, `alone-${round}`) });
      else {
        const pulled = await bench.puller.pull({ storageUri: `gs://models/model-${round}` }, signal);
        if (pulled.kind === "failed") throw new Error(pulled.reason);
        await pulled.release();
      }
      // The first round warms both.
      if (round > 0) times[who].push(performance.now() - startMs);
    }
    await object.delete();
    say(`pulls: round ${round} of ${rounds}`);
  }
  return medianRatio(times.client, times.puller);
}
