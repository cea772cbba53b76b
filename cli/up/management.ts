// Owns what the command line asks of a gateway's management API.
import { Client } from "undici";
import { z } from "zod";

const count = z.number().nonnegative();
const maybe = count.optional();

const statsSchema = z.object({
  models: count,
  warm: count,
  loading: count,
  queued: count,
  waiting: count,
  hits: maybe,
  misses: count,
  reroutes: count,
  refused: count,
  failed: count,
  javascriptRequests: count,
  evictions: count,
  loads: count,
  loadFailures: count,
  capacityBytes: count,
  usedBytes: count,
  hitP50Ms: maybe,
  hitP99Ms: maybe,
  missP50Ms: maybe,
  missP99Ms: maybe,
  extProcErrors: maybe,
});

export type Stats = Readonly<z.infer<typeof statsSchema>>;

const podsSchema = z.object({ pods: z.array(z.object({ podId: z.string(), reachable: z.boolean() })) });

export interface Management extends AsyncDisposable {
  /** Of all gateways together; undefined while none answers. */
  stats(): Promise<Stats | undefined>;
  /** Of each gateway as `stats` found it last, undefined for one that did not answer. */
  each(): readonly (Stats | undefined)[];
  /** How many pods every gateway is linked to; 0 while one does not answer. */
  linkedPods(): Promise<number>;
  /** All of them. */
  isReady(): Promise<boolean>;
}

/** `ca`: PEM of the authority of its certificate. */
export function createManagement(url: string, ca?: Buffer): Management {
  const client = new Client(url, {
    headersTimeout: 2_000,
    bodyTimeout: 2_000,
    connectTimeout: 1_000,
    ...(ca === undefined ? {} : { connect: { ca } }),
  });

  async function get(path: string): Promise<unknown> {
    try {
      const { statusCode, body } = await client.request({ method: "GET", path });
      const answer: unknown = await body.json();
      return statusCode === 200 ? answer : undefined;
    } catch {
      // The gateway may be starting or restarting: that is what the answer says.
      return undefined;
    }
  }

  let last: Stats | undefined;
  return {
    async stats() {
      const parsed = statsSchema.safeParse(await get("/api/v1/stats"));
      last = parsed.success ? parsed.data : undefined;
      return last;
    },
    each: () => [last],
    async linkedPods() {
      const parsed = podsSchema.safeParse(await get("/api/v1/pods"));
      return parsed.success ? parsed.data.pods.filter(({ reachable }) => reachable).length : 0;
    },
    async isReady() {
      return (await get("/readyz")) !== undefined;
    },
    [Symbol.asyncDispose]: () => client.destroy(),
  };
}

/** All gateways of a fleet as one. */
export function createManagements(urls: readonly string[], ca?: Buffer): Management {
  const gateways = urls.map((url) => createManagement(url, ca));
  const each = async <T>(ask: (gateway: Management) => Promise<T>): Promise<readonly T[]> => await Promise.all(gateways.map(ask));
  return {
    stats: async () => combine(await each((gateway) => gateway.stats())),
    each: () => gateways.flatMap((gateway) => gateway.each()),
    linkedPods: async () => Math.min(...(await each((gateway) => gateway.linkedPods()))),
    isReady: async () => (await each((gateway) => gateway.isReady())).every(Boolean),
    async [Symbol.asyncDispose]() {
      await each(async (gateway) => await gateway[Symbol.asyncDispose]());
    },
  };
}

/** What each gateway counts for itself is added up; what it says of the fleet, all say alike; of times the worst. */
function combine(all: readonly (Stats | undefined)[]): Stats | undefined {
  const found = all.filter((stats) => stats !== undefined);
  const [first] = found;
  if (first === undefined) return undefined;
  const sum = (pick: (stats: Stats) => number | undefined): number =>
    found.reduce((total, stats) => total + (pick(stats) ?? 0), 0);
  const worst = (pick: (stats: Stats) => number | undefined): number | undefined => {
    const values = found.flatMap((stats) => pick(stats) ?? []);
    return values.length === 0 ? undefined : Math.max(...values);
  };
  return {
    ...first,
    waiting: sum((stats) => stats.waiting),
    hits: sum((stats) => stats.hits),
    misses: sum((stats) => stats.misses),
    reroutes: sum((stats) => stats.reroutes),
    refused: sum((stats) => stats.refused),
    failed: sum((stats) => stats.failed),
    javascriptRequests: sum((stats) => stats.javascriptRequests),
    extProcErrors: sum((stats) => stats.extProcErrors),
    warm: worst((stats) => stats.warm) ?? first.warm,
    hitP50Ms: worst((stats) => stats.hitP50Ms),
    hitP99Ms: worst((stats) => stats.hitP99Ms),
    missP50Ms: worst((stats) => stats.missP50Ms),
    missP99Ms: worst((stats) => stats.missP99Ms),
  };
}
