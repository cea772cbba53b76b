// Owns the reading of the storage settings: a folder with a file for each key, as the secret `storage-config` is mounted.
// They are read anew for each pull, so a change counts from the next one on, and an entry that is malformed concerns only
// the models that use it.
import { open } from "node:fs/promises";
import { join } from "node:path";
import { type Entry, type EntryType, parseEntry } from "./entry.ts";

export interface FoundEntry {
  readonly kind: "found";
  readonly key: string;
  /** The model named it. */
  readonly named: boolean;
  readonly entry: Entry;
}

export type Lookup =
  | FoundEntry
  /** Nothing was named, and there is no default. */
  | { readonly kind: "none" }
  | { readonly kind: "bad"; readonly reason: string };

export interface StorageSettings {
  /** The named entry; else `default_TYPE`; else `default`, when it is of this type or none is wanted. */
  find(wanted: { readonly key: string | undefined; readonly type: EntryType | undefined }): Promise<Lookup>;
}

const maxEntryBytes = 2 ** 20;
/** Of these an address without an entry hardly ever works. */
const leanTypes: ReadonlySet<EntryType> = new Set(["s3", "gcs", "azure"]);

export function createStorageSettings(folder: string | undefined): StorageSettings {
  const load = async (key: string): Promise<Lookup> => {
    if (folder === undefined) return { kind: "none" };
    for (const name of [key, `${key}.json`]) {
      const text = await readBounded(join(folder, name));
      if (text === undefined) continue;
      if ("fault" in text) return { kind: "bad", reason: `the storage settings' entry ${key} cannot be read (${text.fault})` };
      const parsed = parseEntry(text.text);
      if (parsed.kind === "malformed") return { kind: "bad", reason: `the storage settings' entry ${key} ${parsed.reason}` };
      return { kind: "found", key, named: false, entry: parsed.entry };
    }
    return { kind: "none" };
  };
  return {
    async find({ key, type }): Promise<Lookup> {
      if (key !== undefined) {
        const found = await load(key);
        if (found.kind === "none") return { kind: "bad", reason: `the storage settings have no entry ${key}` };
        return found.kind === "found" ? { ...found, named: true } : found;
      }
      if (type !== undefined) {
        const found = await load(`default_${type}`);
        if (found.kind === "found" && found.entry.type !== type)
          return { kind: "bad", reason: `the storage settings' entry default_${type} is of type ${found.entry.type}` };
        if (found.kind !== "none") return found;
      }
      const found = await load("default");
      // Whose address says all that is needed does not depend on it.
      if (found.kind === "bad" && type !== undefined && !leanTypes.has(type)) return { kind: "none" };
      return found.kind === "found" && type !== undefined && found.entry.type !== type ? { kind: "none" } : found;
    },
  };
}

/** Undefined when there is no such file. The key is a plain name, so the path stays in the folder. */
async function readBounded(path: string): Promise<{ readonly text: string } | { readonly fault: string } | undefined> {
  try {
    await using file = await open(path);
    const found = await file.stat();
    if (!found.isFile()) return { fault: "it is no file" };
    if (found.size > maxEntryBytes) return { fault: "it is too long" };
    return { text: await file.readFile("utf8") };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    return code === "ENOENT" || code === "ENOTDIR" ? undefined : { fault: code };
  }
}
