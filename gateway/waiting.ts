// Owns what a gateway says while it waits for its registry at the start: that it lives, that it is not ready, and why.
import { systemClock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { parseRegistryTarget } from "#platform/registry/target.ts";
import { healthRoutes } from "./admin/routes/health.ts";
import { createAdmin } from "./admin/server.ts";
import { type Book, openBook, type Patience } from "./book.ts";
import type { GatewayOptions } from "./options.ts";

interface Waiting extends AsyncDisposable {
  readonly patience: Patience;
}

const tellEveryMs = 10_000;

/** The models of the registry, as soon as it answers. */
export async function openBookOrWait(options: GatewayOptions, log: Log, signal: AbortSignal): Promise<Book> {
  await using waiting = openWaiting(options, log);
  return await openBook(parseRegistryTarget(options), log, waiting.patience, signal);
}

/** Listens from the first time that the registry does not answer until disposal; probes find the port as they will later. */
function openWaiting(
  { adminHost, adminPort, registryPatience }: { adminHost: string; adminPort: number; registryPatience: number },
  log: Log,
): Waiting {
  let reason = "";
  let toldMs = Number.NEGATIVE_INFINITY;
  let listening: ReturnType<typeof createAdmin> | undefined;
  return {
    patience: {
      patienceMs: registryPatience,
      async onAway(why) {
        reason = `the gateway waits for its registry: ${why}`;
        if (systemClock.monotonicMs() - toldMs >= tellEveryMs) {
          toldMs = systemClock.monotonicMs();
          log.warn("the registry does not answer; the gateway waits for it", { reason: why, patienceMs: registryPatience });
        }
        // A port that the system chooses is nobody's to ask at.
        if (listening !== undefined || adminPort === 0) return;
        listening = createAdmin({ routes: [healthRoutes({ isReady: () => false }, () => reason)], log });
        await listening.listen({ host: adminHost, port: adminPort });
      },
    },
    async [Symbol.asyncDispose]() {
      await listening?.close();
    },
  };
}
