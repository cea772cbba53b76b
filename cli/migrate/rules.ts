// Owns what a check before a move holds storage to: what the pods themselves hold it to.
import { parseAddress } from "#adapters/pull/address.ts";
import { parseEntry } from "#adapters/pull/settings/entry.ts";
import type { StorageRules } from "#controller/migrate/storage.ts";

export const storageRules: StorageRules = {
  entry: (json) => reasonOf(parseEntry(json)),
  address: (storageUri) => reasonOf(parseAddress(storageUri)),
};

function reasonOf(parsed: ReturnType<typeof parseEntry> | ReturnType<typeof parseAddress>): string | undefined {
  return parsed.kind === "ok" ? undefined : parsed.reason;
}
