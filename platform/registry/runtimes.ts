// Owns what the registry says of runtimes: which there are, whether pods of them can be had, and the marks by which a gateway
// asks for pods of one that has none.
import { z } from "zod";
import type { Log } from "../log.ts";
import { runFollow } from "./follow.ts";
import { nameOfKey } from "./records.ts";
import type { Registry } from "./registry.ts";

export const runtimePrefix = "/runtimes/";
export const wakePrefix = "/wakes/";

export interface RuntimeRecord {
  readonly name: string;
  /** It has no pods while nobody asks for it. */
  readonly sleeps: boolean;
  /** It has none now, and a mark under its name brings them. */
  readonly asleep: boolean;
}

const runtimeRecord: z.ZodType<RuntimeRecord> = z
  .object({ name: z.string().min(1), sleeps: z.boolean(), asleep: z.boolean() })
  .readonly();

/** Undefined when it is malformed. */
function parseRuntimeRecord(value: string): RuntimeRecord | undefined {
  try {
    return runtimeRecord.safeParse(JSON.parse(value)).data;
  } catch {
    return undefined;
  }
}

export async function putRuntime(registry: Registry, record: RuntimeRecord): Promise<void> {
  const put = await registry.put(`${runtimePrefix}${record.name}`, JSON.stringify(record));
  if (put.kind !== "ok") throw new Error(`the registry refused the runtime ${record.name}: ${put.kind}`);
}

export async function deleteRuntime(registry: Registry, name: string): Promise<void> {
  await registry.delete(`${runtimePrefix}${name}`);
  await registry.delete(`${wakePrefix}${name}`);
}

/** A request waits for pods of this runtime. Whoever comes first within a while is enough. */
export async function wakeRuntime(registry: Registry, name: string, nowMs: number): Promise<void> {
  await registry.put(`${wakePrefix}${name}`, JSON.stringify({ atMs: nowMs }));
}

/** Tells the runtimes, then every change, until the signal is aborted. */
export async function runRuntimeWatch(
  registry: Registry,
  listener: (name: string, record: RuntimeRecord | undefined) => void,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const known = new Map<string, string>();
  await runFollow(
    registry,
    runtimePrefix,
    {
      put(key, value) {
        if (known.get(key) === value) return;
        known.set(key, value);
        const record = parseRuntimeRecord(value);
        if (record === undefined) log.error("the record of a runtime is malformed", { key });
        listener(nameOfKey(key, runtimePrefix), record);
      },
      delete(key) {
        if (known.delete(key)) listener(nameOfKey(key, runtimePrefix), undefined);
      },
      keys: () => known.keys(),
      synced: () => undefined,
      onError: (error) => log.warn("the registry could not be read; trying again", { error }),
    },
    signal,
  );
}
