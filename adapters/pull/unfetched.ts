// Owns artefacts that the model server fetches by itself: nothing is pulled, and where they lie is told as ModelMesh told it, by
// the path within a store and what leads to that store.
import type { Settings } from "#core/fields.ts";
import type { Artefact } from "../drivers/driver.ts";
import { parseAddress } from "./address.ts";
import type { Puller } from "./puller.ts";

export interface StoragePlace {
  readonly path: string;
  /** Those of the model, and those that its address says, which count more. */
  readonly parameters: Settings;
}

/** An address of a kind that ModelMesh did not know is the path, as it is. */
export function placeOf({ storageUri, storageParameters = {} }: Artefact): StoragePlace {
  const parsed = parseAddress(storageUri);
  if (parsed.kind === "refused") return { path: storageUri, parameters: storageParameters };
  const { address } = parsed;
  const at = (path: string, said: Settings): StoragePlace => ({ path, parameters: { ...storageParameters, ...said } });
  switch (address.kind) {
    case "storage":
      return at(address.path, {});
    case "s3":
    case "gcs":
      return at(address.path, { type: address.kind, bucket: address.bucket });
    case "pvc":
      return at(address.path, { type: "pvc", name: address.claim });
    case "azure": {
      const account = address.host?.split(".")[0];
      const named = account === undefined ? {} : { account_name: account };
      return at(address.path, { type: "azure", container: address.container, ...named });
    }
    case "http": {
      const url = new URL(address.url);
      return at(decodeURIComponent(url.pathname.slice(1)), { type: "http", url: `${url.origin}${url.search}` });
    }
    case "file":
    case "hf":
    case "oci":
      return at(storageUri, {});
  }
}

/** How large an artefact is nobody knows here. */
export function createUnfetched(): Puller {
  return {
    probe: async () => ({ kind: "ok", sizeBytes: 0 }),
    pull: async (artefact) => ({ kind: "ok", path: placeOf(artefact).path, sizeBytes: 0, release: async () => undefined }),
  };
}
