// Owns what ModelMesh's three strings say of an artefact: type, path and key, as its clients and its controller write them.
// Pure. Invariant: the same strings give the same spec, and what is not understood is kept, so that other strings are
// another model.
import { type Found, isRecord, refused } from "#core/fields.ts";
import { parseRevision } from "#core/model.ts";
import type { RevisionSpec } from "#core/revision.ts";
import { parseJson } from "#platform/json.ts";

export interface ModelInfoStrings {
  readonly type: string;
  readonly path: string;
  readonly key: string;
}

const hasScheme = /^[a-z][a-z0-9+.-]{1,31}:/;

/** `id`: of the revision. */
export function readModelInfo(id: string, { type, path, key }: ModelInfoStrings): Found<RevisionSpec> {
  if (type === "") return refused("modelInfo.type must not be empty");
  const named = readType(type);
  const more = readKey(key);
  if (more.kind === "refused") return more;
  const format = more.found.format ?? named.format;
  if (format === undefined) return refused("neither modelInfo.type nor the model_type of modelInfo.key names a format");
  const formatVersion = more.found.formatVersion ?? (more.found.format === undefined ? named.formatVersion : undefined);
  const { storageKey, storageParameters, schemaPath } = more.found;
  const parsed = parseRevision({
    id,
    slot: 0,
    format,
    formatVersion,
    runtime: named.runtime,
    // A path without a scheme lies in what the storage entry names.
    storageUri: hasScheme.test(path) ? path : `storage:///${path.replace(/^\/+/, "")}`,
    storageKey,
    storageParameters,
    schemaPath,
  });
  if (parsed.kind === "refused") return refused(`modelInfo: ${parsed.reason}`);
  const { slot: _, ...spec } = parsed.revision;
  return { kind: "ok", found: spec };
}

interface Named {
  readonly format?: string;
  readonly formatVersion?: string;
  readonly runtime?: string;
}

/** `onnx`, or labels of runtimes: `mt:onnx:1|pv:grpc-v2`, `rt:my-runtime`. The protocol is the runtime's business. */
function readType(type: string): Named {
  const labels = type.split("|");
  if (!labels.every((label) => /^(?:mt|rt|pv):/.test(label))) return { format: type };
  let named: Named = {};
  for (const label of labels) {
    const [kind, name, version] = label.split(":");
    if (kind === "mt" && name !== undefined) {
      named = { ...named, format: name, ...(version === undefined || version === "" ? {} : { formatVersion: version }) };
    }
    if (kind === "rt" && name !== undefined) named = { ...named, runtime: name };
  }
  return named;
}

interface Key {
  readonly format?: string | undefined;
  readonly formatVersion?: string | undefined;
  readonly storageKey?: string | undefined;
  readonly storageParameters?: Readonly<Record<string, string>>;
  readonly schemaPath?: string | undefined;
}

/** Told by the puller, not known when it is registered; a change of it is no other model. */
const ignored = new Set(["disk_size_bytes"]);

function readKey(key: string): Found<Key> {
  if (key.trim() === "") return { kind: "ok", found: {} };
  const json = parseJson(key);
  // A key of a runtime's own making, which it will be given back.
  if (!isRecord(json)) return { kind: "ok", found: { storageParameters: { "modelmesh-key": key } } };
  const { storage_key: storageKey, storage_params: given, model_type: type, schema_path: schemaPath, ...others } = json;
  const parameters: Record<string, string> = {};
  for (const [name, value] of Object.entries({ ...(isRecord(given) ? given : {}), ...others })) {
    if (ignored.has(name) || value === null || value === undefined) continue;
    parameters[name] = typeof value === "string" ? value : JSON.stringify(value);
  }
  if (given !== undefined && given !== null && !isRecord(given))
    return refused("storage_params of modelInfo.key must be an object");
  const { name, version } = isRecord(type) ? type : { name: type, version: undefined };
  for (const [what, value] of Object.entries({ storage_key: storageKey, schema_path: schemaPath, model_type: name, version })) {
    if (value !== undefined && value !== null && typeof value !== "string")
      return refused(`${what} of modelInfo.key must be text`);
  }
  return {
    kind: "ok",
    found: {
      format: textOf(name),
      formatVersion: textOf(version),
      storageKey: textOf(storageKey),
      schemaPath: textOf(schemaPath),
      ...(Object.keys(parameters).length === 0 ? {} : { storageParameters: parameters }),
    },
  };
}

/** Go's JSON writes an absent text as an empty one. */
function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
