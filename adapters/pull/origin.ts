// Owns which store a source names.
import type { Source } from "./settings/source.ts";

type RemoteSource = Exclude<Source, { readonly kind: "pvc" }>;

/** The same object by the credentials of two is one. */
export function originOf(source: RemoteSource): readonly unknown[] {
  switch (source.kind) {
    case "s3":
      return [source.kind, source.endpoint ?? "", source.bucket];
    case "gcs":
      return [source.kind, source.entry?.endpoint ?? "", source.bucket];
    case "azure":
      return [source.kind, source.host ?? source.entry?.connectionString ?? "", source.container];
    case "http":
      return [source.kind];
    case "hf":
      return [source.kind, source.entry?.endpoint ?? "", source.repository];
    case "oci":
      return [source.kind, source.registry, source.repository];
  }
}

/** What falls silent as a whole. */
export function storeOf(source: RemoteSource): readonly unknown[] {
  switch (source.kind) {
    case "http":
      return [source.kind, new URL(source.url).host];
    case "hf":
      return [source.kind, source.entry?.endpoint ?? ""];
    case "oci":
      return [source.kind, source.registry];
    case "s3":
    case "gcs":
    case "azure":
      return originOf(source);
  }
}
