// Owns what tests ask of gateways' decisions.
import { z } from "zod";
import type { TestFleet } from "./fleet.ts";
import { createRestClient } from "./http.ts";

const explained = z.object({
  decisions: z.array(z.object({ kind: z.string(), reason: z.string(), atMs: z.number(), podId: z.string().optional() })),
});

/**
 * Loads that a gateway decided on for a waiting request, since this time of the wall clock. A request may meet a route that is
 * on its way to Envoy, and then goes on at once: that is none.
 */
export async function loadsForRequests({ gateways }: TestFleet, model: string, sinceMs: number): Promise<readonly string[]> {
  const found = await Promise.all(
    gateways.map(async ({ adminUrl }) => {
      await using client = createRestClient(adminUrl);
      const { decisions } = explained.parse((await client.ask(`/api/v1/models/${model}/explain`)).json);
      return decisions.filter(({ kind, reason, atMs }) => kind === "placed" && reason === "for a request" && atMs > sinceMs);
    }),
  );
  return found.flat().map(({ podId = "", atMs }) => `${model} on ${podId} after ${Math.round(atMs - sinceMs)} ms`);
}
