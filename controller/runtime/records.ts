// Owns what the registry says of runtimes: a record of each, by which a gateway knows that pods can be had, and the marks of
// requests that wait for one without pods.
import { type Clock, sleep } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { runFollow } from "#platform/registry/follow.ts";
import { nameOfKey } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { deleteRuntime, putRuntime, type RuntimeRecord, wakePrefix } from "#platform/registry/runtimes.ts";

export interface RuntimeRecords {
  put(record: RuntimeRecord): Promise<void>;
  remove(name: string): Promise<void>;
  /** When a request last asked for it, on this process's monotonic scale. */
  wokenAtMs(name: string): number | undefined;
  run(signal: AbortSignal): Promise<void>;
}

/** How long ago the mark was made: one that lay there while no controller ran may be old. */
function ageMs(value: string, nowMs: number): number {
  const at = /"atMs":(\d{1,16})/.exec(value)?.[1];
  return at === undefined ? 0 : Math.max(0, nowMs - Number(at));
}

export function createRuntimeRecords(parts: {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Log;
  readonly onWake: (runtime: string) => void;
}): RuntimeRecords {
  const { registry, clock, log, onWake } = parts;
  const written = new Map<string, string>();
  const woken = new Map<string, { readonly value: string; readonly atMs: number }>();
  return {
    async put(record) {
      const text = JSON.stringify(record);
      if (written.get(record.name) === text) return;
      await putRuntime(registry, record);
      written.set(record.name, text);
    },
    async remove(name) {
      if (written.get(name) === "") return;
      await deleteRuntime(registry, name);
      written.set(name, "");
    },
    wokenAtMs: (name) => woken.get(name)?.atMs,
    async run(signal) {
      while (!signal.aborted) {
        await runFollow(
          registry,
          wakePrefix,
          {
            put(key, value) {
              const name = nameOfKey(key, wakePrefix);
              if (woken.get(name)?.value === value) return;
              woken.set(name, { value, atMs: clock.monotonicMs() - ageMs(value, clock.now()) });
              onWake(name);
            },
            delete: (key) => void woken.delete(nameOfKey(key, wakePrefix)),
            keys: () => Array.from(woken.keys(), (name) => `${wakePrefix}${name}`),
            synced: () => undefined,
            onError: (error) => log.warn("the registry could not be read; trying again", { error }),
          },
          signal,
        );
        await sleep(100, signal).catch(() => undefined);
      }
    },
  };
}
