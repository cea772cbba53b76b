// Owns what is said between a benchmark and the process of a timed pod.
import { z } from "zod";

export const planSchema = z.object({
  podId: z.string(),
  loadMs: z.number(),
  loadConcurrency: z.int(),
  /** How many copies fit. */
  room: z.int(),
  /** What it holds from the beginning. */
  held: z.array(z.string()),
  registryFile: z.string(),
  /** `host:port` of what answers for its model server. */
  address: z.string(),
});

export type TimedPodPlan = z.infer<typeof planSchema>;

export const replySchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("ready") }),
  z.object({ kind: z.literal("loads"), loads: z.int() }),
]);

export type TimedPodReply = z.infer<typeof replySchema>;
