// Owns the comparison of a pull with the provider's own client alone: the same objects of a real server of its API, to the
// same disk, in turns.
import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { CreateBucketCommand, DeleteObjectCommand, GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { Storage } from "@google-cloud/storage";
import { openPullBench } from "#adapters/pull/testing/bench.ts";
import { openFakeGcs, openMoto } from "#test/storage/servers.ts";
import { medianRatio, orderOfRound } from "../stats.ts";

const objectBytes = 64 * 2 ** 20;

interface PullSource extends AsyncDisposable {
  readonly entry: readonly [key: string, entry: unknown];
  uri(name: string): string;
  put(name: string, content: Buffer): Promise<void>;
  /** By the provider's client alone. */
  get(name: string, file: string): Promise<void>;
  drop(name: string): Promise<void>;
}

const sources: Readonly<Record<"gcs" | "s3", () => Promise<PullSource>>> = {
  async gcs() {
    const server = await openFakeGcs();
    const client = new Storage({ apiEndpoint: server.url, projectId: "bench", useAuthWithCustomEndpoint: false });
    await client.createBucket("models");
    const object = (name: string) => client.bucket("models").file(name);
    return {
      entry: ["default_gcs", { type: "gcs", endpoint_url: server.url }],
      uri: (name) => `gs://models/${name}`,
      put: (name, content) => object(name).save(content, { resumable: false }),
      get: async (name, destination) => void (await object(name).download({ destination })),
      drop: async (name) => void (await object(name).delete()),
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  },
  async s3() {
    const server = await openMoto();
    const credentials = { accessKeyId: "bench", secretAccessKey: "bench" };
    const client = new S3Client({ endpoint: server.url, region: "us-east-1", forcePathStyle: true, credentials });
    const at = (Key: string) => ({ Bucket: "models", Key });
    await client.send(new CreateBucketCommand({ Bucket: "models" }));
    const entry = { type: "s3", endpoint_url: server.url, region: "us-east-1" };
    return {
      entry: ["default_s3", { ...entry, access_key_id: "bench", secret_access_key: "bench" }],
      uri: (name) => `s3://models/${name}`,
      put: async (name, Body) => void (await client.send(new PutObjectCommand({ ...at(name), Body }))),
      async get(name, file) {
        const { Body } = await client.send(new GetObjectCommand(at(name)));
        if (!(Body instanceof Readable)) throw new Error("the client gives no stream");
        await pipeline(Body, createWriteStream(file));
      },
      drop: async (name) => void (await client.send(new DeleteObjectCommand(at(name)))),
      async [Symbol.asyncDispose]() {
        client.destroy();
        await server[Symbol.asyncDispose]();
      },
    };
  },
};

/** How fast the puller is for each of the client: 1 is as fast. */
export async function measurePulls(
  kind: keyof typeof sources,
  rounds: number,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<number> {
  await using source = await sources[kind]();
  await using bench = await openPullBench({ maxBytes: 2 * objectBytes });
  await bench.setEntry(...source.entry);
  const times: Record<"client" | "puller", number[]> = { client: [], puller: [] };
  for (let round = 0; round <= rounds; round++) {
    signal.throwIfAborted();
    // Another content each time: the cache knows none of them.
    const name = `model-${round}`;
    await source.put(name, randomBytes(objectBytes));
    for (const who of orderOfRound(["client", "puller"] as const, round)) {
      const startMs = performance.now();
      if (who === "client") await source.get(name, join(bench.folder, `alone-${round}`));
      else {
        const pulled = await bench.puller.pull({ storageUri: source.uri(name) }, signal);
        if (pulled.kind === "failed") throw new Error(pulled.reason);
        await pulled.release();
      }
      // The first round warms both.
      if (round > 0) times[who].push(performance.now() - startMs);
    }
    await source.drop(name);
    say(`pulls from ${kind}: round ${round} of ${rounds}`);
  }
  return medianRatio(times.client, times.puller);
}
