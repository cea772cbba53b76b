// Owns which runtimes pods can be had of though none is up, and asks for them: a model of a runtime that sleeps is not
// refused, its requests wait until a pod is there.
// Invariants: a runtime that the registry does not name is waited for by nobody; asking costs one write of the registry for
// each runtime and pause, however many requests wait.
import type { Revision } from "#core/model.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import type { RuntimeRecord } from "#platform/registry/runtimes.ts";
import type { Fleet } from "./fleet.ts";

export interface Sleepers {
  /** Whether pods for it are on their way, or have just been asked for. */
  awaits(revision: Pick<Revision, "runtime">): boolean;
  set(name: string, record: RuntimeRecord | undefined): void;
}

export interface SleepersParts {
  readonly fleet: Pick<Fleet, "pods">;
  readonly clock: Clock;
  readonly log: Log;
  readonly wake: (runtime: string) => Promise<void>;
}

const askAgainMs = 5_000;

export function createSleepers({ fleet, clock, log, wake }: SleepersParts): Sleepers {
  const runtimes = new Map<string, RuntimeRecord>();
  const asked = new Map<string, number>();
  return {
    awaits({ runtime }) {
      const record = runtime === undefined ? undefined : runtimes.get(runtime);
      if (record === undefined) return false;
      for (const { info, reachable } of fleet.pods()) if (info.runtime === record.name && reachable) return false;
      const nowMs = clock.monotonicMs();
      const last = asked.get(record.name);
      if (last === undefined || nowMs - last >= askAgainMs) {
        asked.set(record.name, nowMs);
        if (last === undefined) log.info("a runtime without pods is woken", { runtime: record.name });
        wake(record.name).catch((error: unknown) =>
          log.warn("a runtime could not be woken; trying again", { runtime: record.name, error }),
        );
      }
      return true;
    },
    set(name, record) {
      if (record === undefined) {
        runtimes.delete(name);
        asked.delete(name);
      } else {
        runtimes.set(name, record);
        if (record.asleep) asked.delete(name);
      }
    },
  };
}
