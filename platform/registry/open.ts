// Owns the choice of an implementation, and what is done alike with all of them.
import { type Log, silentLog } from "../log.ts";
import { openEmbeddedRegistry } from "./embedded.ts";
import { maxPutMany, maxPutManyBytes, type NewEntry, type PutManyResult, type Registry } from "./registry.ts";
import type { RegistryTarget } from "./target.ts";

/** An etcd that is not there yet is no error here: calls say so. */
export async function openRegistry(target: RegistryTarget, log: Log = silentLog): Promise<Registry> {
  if (target.kind === "embedded") return await openEmbeddedRegistry({ file: target.file });
  // Loaded only where it is used: it takes a tenth of a second.
  const { openEtcdRegistry } = await import("./etcd.ts");
  return openEtcdRegistry(target, log);
}

const partsAtOnce = 8;

/**
 * Any number of entries, in parts that are each written whole, several at once. When one fails, others may have been
 * written: the caller repeats them all.
 */
export async function putAll(registry: Registry, entries: readonly NewEntry[]): Promise<PutManyResult> {
  const parts = cut(entries);
  let done: PutManyResult = { kind: "ok", revision: 0 };
  const work = async (): Promise<void> => {
    for (let part = parts.shift(); part !== undefined && done.kind === "ok"; part = parts.shift()) {
      const put = await registry.putMany(part);
      if (done.kind === "ok") done = put.kind === "ok" ? { kind: "ok", revision: Math.max(put.revision, done.revision) } : put;
    }
  };
  await Promise.all(Array.from({ length: partsAtOnce }, work));
  return done;
}

function cut(entries: readonly NewEntry[]): NewEntry[][] {
  const parts: NewEntry[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const entry of entries) {
    const ownBytes = entry.key.length + Buffer.byteLength(entry.value);
    const last = parts.at(-1);
    if (last === undefined || last.length >= maxPutMany || bytes + ownBytes > maxPutManyBytes) {
      parts.push([entry]);
      bytes = ownBytes;
    } else {
      last.push(entry);
      bytes += ownBytes;
    }
  }
  return parts;
}
