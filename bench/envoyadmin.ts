// Owns the reading of Envoy's counters and gauges over its admin socket, on one connection that stays open.
import { Client } from "undici";
import { z } from "zod";

export interface EnvoyAdmin extends AsyncDisposable {
  /** Those whose names match; undefined while Envoy does not answer. */
  stats(filter: string): Promise<ReadonlyMap<string, number> | undefined>;
  /** Bytes that Envoy has allocated, now: the gauge server.memory_allocated is this, but some seconds old. */
  allocatedBytes(): Promise<number | undefined>;
}

const memorySchema = z.object({ allocated: z.coerce.number() });

export function createEnvoyAdmin(socketPath: string): EnvoyAdmin {
  const client = new Client("http://envoy", { socketPath, headersTimeout: 30_000, bodyTimeout: 30_000 });
  const get = async (path: string): Promise<string | undefined> => {
    try {
      const { statusCode, body } = await client.request({ method: "GET", path });
      const text = await body.text();
      return statusCode === 200 ? text : undefined;
    } catch {
      // It may be starting: the next question tells.
      return undefined;
    }
  };
  return {
    async stats(filter) {
      const text = await get(`/stats?filter=${encodeURIComponent(filter)}`);
      return text === undefined ? undefined : parseStats(text);
    },
    async allocatedBytes() {
      const text = await get("/memory");
      return text === undefined ? undefined : memorySchema.parse(JSON.parse(text)).allocated;
    },
    [Symbol.asyncDispose]: () => client.destroy(),
  };
}

export function parseStats(text: string): ReadonlyMap<string, number> {
  const lines = text.split("\n").map((line) => line.split(": "));
  return new Map(lines.flatMap(([name = "", value]) => (/^\d+$/.test(value ?? "") ? [[name, Number(value)] as const] : [])));
}
