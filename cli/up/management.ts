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
  /** Undefined while the gateway does not answer. */
  stats(): Promise<Stats | undefined>;
  /** How many pods it is linked to; 0 while it does not answer. */
  linkedPods(): Promise<number>;
  isReady(): Promise<boolean>;
}

export function createManagement(url: string): Management {
  const client = new Client(url, { headersTimeout: 2_000, bodyTimeout: 2_000, connectTimeout: 1_000 });

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

  return {
    async stats() {
      const parsed = statsSchema.safeParse(await get("/api/v1/stats"));
      return parsed.success ? parsed.data : undefined;
    },
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
