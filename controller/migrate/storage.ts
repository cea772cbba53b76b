// Owns what is said of a ModelMesh installation's storage settings, and of what models ask of them. Pure; names of entries only:
// no value of a secret is repeated.
import { parseJson } from "#platform/json.ts";
import { type KubeObject, record, text, texts } from "../engine/objects.ts";
import { annotations } from "../kinds.ts";
import type { SourceRevision } from "../model/source.ts";

/** What pods hold settings and addresses to: each tells why it cannot be, or nothing. */
export interface StorageRules {
  readonly entry: (json: string) => string | undefined;
  readonly address: (storageUri: string) => string | undefined;
}

/** Of one namespace. */
export interface StorageSettings {
  readonly secret: string;
  readonly entries: ReadonlySet<string>;
  readonly claims: ReadonlySet<string>;
}

export function readSettings(secret: KubeObject): StorageSettings {
  const entries = Object.entries(dataOf(secret));
  const claims = entries.flatMap(([, json]) => {
    const entry = record(parseJson(json));
    return entry["type"] === "pvc" ? (text(entry["name"]) ?? []) : [];
  });
  return {
    secret: secret.metadata.name,
    entries: new Set(entries.map(([key]) => key.replace(/\.json$/, ""))),
    claims: new Set(claims),
  };
}

/** Sentences about entries that no model could use. */
export function checkEntries(secret: KubeObject, rules: StorageRules): readonly string[] {
  return Object.entries(dataOf(secret)).flatMap(([key, json]) => {
    const reason = rules.entry(json);
    return reason === undefined ? [] : [`the entry ${key} ${reason}`];
  });
}

/** `settings` is undefined when they were not given: then nothing is said of entries. */
export function checkArtefact(
  revision: Pick<SourceRevision, "storageUri" | "storageKey" | "storageParameters">,
  settings: StorageSettings | undefined,
  rules: StorageRules,
): { readonly change: readonly string[]; readonly differs: readonly string[] } {
  const { storageUri, storageKey, storageParameters } = revision;
  const change: string[] = [];
  const differs: string[] = [];
  const reason = rules.address(storageUri);
  if (reason !== undefined) change.push(`its address cannot be fetched from: ${reason}`);
  if (settings !== undefined && storageKey !== undefined && !settings.entries.has(storageKey))
    change.push(`${settings.secret} has no entry ${storageKey} (storage.key, or the annotation ${annotations.secretKey})`);
  const named = storageParameters["type"] === "pvc" ? storageParameters["name"] : undefined;
  const claim = /^pvc:\/\/([^/]+)/.exec(storageUri)?.[1] ?? named;
  if (claim !== undefined && settings?.claims.has(claim) !== true)
    differs.push(
      `the claim ${claim} is not in ${settings?.secret ?? "storage-config"}: set allowAnyPVC, as it must have been before`,
    );
  if (Object.keys(storageParameters).some((name) => /url|endpoint|host|uri/i.test(name)))
    change.push(
      "storage parameters may not lead to another address with the entry's credentials: give the address an entry of its own",
    );
  return { change, differs };
}

export function dataOf({ body }: KubeObject): Readonly<Record<string, string>> {
  const decoded = Object.entries(texts(record(body["data"]))).map(([key, value]) => [
    key,
    Buffer.from(value, "base64").toString("utf8"),
  ]);
  return { ...Object.fromEntries(decoded), ...texts(record(body["stringData"])) };
}
