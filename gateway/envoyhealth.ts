// Owns whether the Envoy beside this gateway asks its clients to go elsewhere. While it counts as failing it answers as ever, and
// each answer ends its connection in order: `connection: close` in HTTP/1.1, GOAWAY in HTTP/2
// (https://www.envoyproxy.io/docs/envoy/latest/operations/admin#post--healthcheck-fail).
// Invariant: Envoy is told until it has heard it, and only the last that was wanted.
import { errorMessage } from "#core/errors.ts";
import { sleep } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { openEnvoyAdmin } from "./envoyadmin.ts";

export interface EnvoyHealth extends AsyncDisposable {
  set(health: "ok" | "fail"): void;
}

const pauseMs = 250;

export function createEnvoyHealth(adminSocket: string, log: Log): EnvoyHealth {
  const client = openEnvoyAdmin(adminSocket);
  let telling: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;

  async function tell(health: "ok" | "fail", signal: AbortSignal): Promise<void> {
    for (let reason = ""; !signal.aborted; ) {
      const said = await client.request({ method: "POST", path: `/healthcheck/${health}`, signal }).then(
        async ({ statusCode, body }) => {
          await body.dump();
          return statusCode === 200 ? undefined : `it answered ${statusCode}`;
        },
        (error: unknown) => errorMessage(error),
      );
      if (said === undefined) return log.debug("envoy was told how it is", { health });
      // It may not have started yet, or have ended.
      if (said !== reason && !signal.aborted) log.debug("envoy could not be told how it is", { health, reason: said });
      reason = said;
      await sleep(pauseMs, signal).catch(() => undefined);
    }
  }

  return {
    set(health) {
      const before = telling;
      before?.stop.abort();
      const stop = new AbortController();
      // One after the other: what was wanted last is what Envoy hears last.
      const done = (before?.done ?? Promise.resolve()).then(() => tell(health, stop.signal));
      telling = { stop, done };
    },
    async [Symbol.asyncDispose]() {
      telling?.stop.abort();
      await telling?.done;
      await client.destroy();
    },
  };
}
