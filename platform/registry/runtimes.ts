// Owns what the registry says of runtimes: which there are, whether pods of them can be had, and the marks by which a gateway
// asks for pods of one that has none.
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

export async function putRuntime(registry: Registry, record: RuntimeRecord): Promise<void> {
  const put = await registry.put(`${runtimePrefix}${record.name}`, JSON.stringify(record));
  if (put.kind !== "ok") throw new Error(`the registry refused the runtime ${record.name}: ${put.kind}`);
}

export async function deleteRuntime(registry: Registry, name: string): Promise<void> {
  await registry.delete(`${runtimePrefix}${name}`);
  await registry.delete(`${wakePrefix}${name}`);
}
