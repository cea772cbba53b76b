// Owns the joining of an address, an entry of the storage settings and a model's parameters into one source. Pure.
// Invariants: credentials of an entry go only to the host that the entry names; parameters change nothing but what the
// entry lets them (by default names of buckets and containers, never hosts); an address that contradicts a parameter or a
// named entry is refused, rather than one of them guessed.
import type { Settings } from "#core/fields.ts";
import { type Address, parsePath } from "../address.ts";
import {
  type AzureEntry,
  type Entry,
  type EntryType,
  type GcsEntry,
  type HttpEntry,
  type HubEntry,
  type OciEntry,
  type ParameterName,
  parameterNames,
  type S3Entry,
} from "./entry.ts";

/** Whether the operator wrote the address into the settings, or somebody who may register models chose it. */
interface Chosen {
  /** Its host is the operator's: private addresses are well. */
  readonly trusted: boolean;
}

export type Source =
  | (Chosen & {
      readonly kind: "s3";
      readonly bucket: string;
      readonly path: string;
      readonly endpoint: string | undefined;
      readonly region: string | undefined;
      readonly entry: S3Entry | undefined;
    })
  | { readonly kind: "gcs"; readonly bucket: string; readonly path: string; readonly entry: GcsEntry | undefined }
  | {
      readonly kind: "azure";
      readonly host: string | undefined;
      readonly container: string;
      readonly path: string;
      readonly entry: AzureEntry | undefined;
    }
  | (Chosen & { readonly kind: "http"; readonly url: string; readonly entry: HttpEntry | undefined })
  | {
      readonly kind: "hf";
      readonly repository: string;
      readonly revision: string;
      readonly entry: HubEntry | undefined;
    }
  | (Chosen & {
      readonly kind: "oci";
      readonly registry: string;
      readonly repository: string;
      readonly reference: string;
      readonly entry: OciEntry | undefined;
    })
  | { readonly kind: "pvc"; readonly claim: string; readonly path: string };

export type Resolved =
  | { readonly kind: "ok"; readonly source: Source }
  | { readonly kind: "refused"; readonly trouble: "unsuitable" | "settings"; readonly reason: string };

type Refused = Extract<Resolved, { readonly kind: "refused" }>;

export interface Given {
  readonly address: Exclude<Address, { readonly kind: "file" }>;
  readonly parameters: Settings;
  /** Named: the model chose it, so it must suit; otherwise it counts only where it does. */
  readonly entry: { readonly key: string; readonly named: boolean; readonly entry: Entry } | undefined;
}

const usualParameters: Readonly<Record<EntryType, readonly ParameterName[]>> = {
  s3: ["bucket", "region"],
  gcs: ["bucket"],
  azure: ["container"],
  http: [],
  hf: [],
  oci: [],
  pvc: [],
};

/** Without an entry there are no credentials that could go astray. */
const freeParameters: Readonly<Record<EntryType, readonly ParameterName[]>> = {
  s3: ["bucket", "region", "endpoint_url"],
  gcs: ["bucket"],
  azure: ["account_name", "container"],
  http: ["url"],
  hf: [],
  oci: [],
  pvc: ["name"],
};

/** The entry type that goes with an address; undefined when the entry or a parameter says it. */
export function wantedType(address: Given["address"], parameters: Settings): EntryType | "unknown" | undefined {
  if (address.kind !== "storage") return address.kind;
  const type = parameters["type"];
  if (type === undefined) return undefined;
  return Object.hasOwn(usualParameters, type) ? (type as EntryType) : "unknown";
}

export function resolveSource(given: Given): Resolved {
  const { address, parameters, entry: found } = given;
  const type = wantedType(address, parameters) ?? found?.entry.type;
  if (type === undefined || type === "unknown")
    return refuse("settings", "neither the model nor the storage settings say which type of storage it is");
  if (found !== undefined && found.entry.type !== type) {
    return refuse(
      "unsuitable",
      `the storage settings' entry ${found.key} is of type ${found.entry.type}, and the model's address is not`,
    );
  }
  const allowed = checkParameters(type, parameters, found);
  if (allowed !== undefined) return allowed;
  switch (type) {
    case "s3":
    case "gcs":
      return resolveBucket(type, given);
    case "azure":
      return resolveAzure(given);
    case "http":
      return resolveHttp(given);
    case "hf": {
      if (address.kind !== "hf") return refuse("unsuitable", "a model of a hub must have an hf: address");
      const { repository, revision } = address;
      return ok({ kind: "hf", repository, revision, entry: entryOf(found, "hf") });
    }
    case "oci":
      return resolveOci(given);
    case "pvc": {
      const claim = parameters["name"] ?? entryOf(found, "pvc")?.name;
      const { path } = address as { readonly path: string };
      if (address.kind === "storage") {
        return claim === undefined || !/^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/.test(claim)
          ? refuse("settings", "neither the model nor the storage settings name the claim")
          : ok({ kind: "pvc", claim, path });
      }
      return address.kind === "pvc" ? ok({ kind: "pvc", claim: address.claim, path }) : contradiction();
    }
  }
}

function checkParameters(type: EntryType, parameters: Settings, found: Given["entry"]): Refused | undefined {
  const allowed = found === undefined ? freeParameters[type] : (found.entry.allowParameters ?? usualParameters[type]);
  for (const name of Object.keys(parameters)) {
    if (name === "type") {
      if (parameters[name] !== type) return refuse("unsuitable", "the model's parameter type is not that of its address");
    } else if (!parameterNames.some((known) => known === name && allowed.includes(known))) {
      const who = found === undefined ? "a model" : `a model with the storage settings' entry ${found.key}`;
      return refuse("unsuitable", `${who} cannot set the parameter ${name.slice(0, 64)}`);
    }
  }
  return undefined;
}

function resolveBucket(type: "s3" | "gcs", { address, parameters, entry: found }: Given): Resolved {
  const entry = type === "s3" ? entryOf(found, "s3") : entryOf(found, "gcs");
  const named = parameters["bucket"];
  const inAddress = address.kind === "s3" || address.kind === "gcs" ? address.bucket : undefined;
  if (inAddress !== undefined && named !== undefined && inAddress !== named) {
    return refuse("unsuitable", "the model's parameter bucket is not the bucket of its address");
  }
  const allowed = found?.entry.allowParameters ?? usualParameters[type];
  if (inAddress !== undefined && entry?.bucket !== undefined && entry.bucket !== inAddress && !allowed.includes("bucket")) {
    return refuse("unsuitable", `the storage settings' entry ${found?.key ?? ""} is for another bucket`);
  }
  const bucket = inAddress ?? named ?? entry?.bucket;
  if (bucket === undefined) return refuse("settings", "neither the model nor the storage settings name the bucket");
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]$/.test(bucket) || bucket.includes("..")) {
    return refuse("unsuitable", "the name of the bucket is not one");
  }
  const { path } = address as { readonly path: string };
  if (type === "gcs") return ok({ kind: "gcs", bucket, path, entry: entryOf(found, "gcs") });
  const s3 = entryOf(found, "s3");
  const endpoint = parameters["endpoint_url"] ?? s3?.endpoint;
  if (endpoint !== undefined && !isWebUrl(endpoint))
    return refuse("unsuitable", "the parameter endpoint_url is no http or https URL");
  const region = parameters["region"] ?? s3?.region;
  return ok({ kind: "s3", bucket, path, endpoint, region, entry: s3, trusted: parameters["endpoint_url"] === undefined });
}

function resolveAzure({ address, parameters, entry: found }: Given): Resolved {
  const entry = entryOf(found, "azure");
  const account = parameters["account_name"] ?? entry?.accountName;
  if (account !== undefined && !/^[a-z0-9]{3,24}$/.test(account))
    return refuse("unsuitable", "the name of the account is not one");
  const usualHost = account === undefined ? undefined : `${account}.blob.core.windows.net`;
  if (address.kind === "azure") {
    const { host, container, path } = address;
    const named = parameters["container"];
    if (named !== undefined && named !== container) {
      return refuse("unsuitable", "the model's parameter container is not the container of its address");
    }
    const allowed = found?.entry.allowParameters ?? usualParameters.azure;
    if (entry?.container !== undefined && entry.container !== container && !allowed.includes("container")) {
      return refuse("unsuitable", `the storage settings' entry ${found?.key ?? ""} is for another container`);
    }
    const suits = host === undefined || (account !== undefined && host.startsWith(`${account}.`));
    if (!suits && found?.named === true)
      return refuse("unsuitable", `the storage settings' entry ${found.key} is for another account`);
    if (host === undefined && usualHost === undefined && entry?.connectionString === undefined) {
      return refuse("settings", "neither the model nor the storage settings name the account");
    }
    return ok({ kind: "azure", host: host ?? usualHost, container, path, entry: suits ? entry : undefined });
  }
  const container = parameters["container"] ?? entry?.container;
  const { path } = address as { readonly path: string };
  if (container === undefined || (usualHost === undefined && entry?.connectionString === undefined)) {
    return refuse("settings", "neither the model nor the storage settings name the account and the container");
  }
  if (!/^(?:\$root|\$web|[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9]))$/.test(container)) {
    return refuse("unsuitable", "the name of the container is not one");
  }
  return ok({ kind: "azure", host: usualHost, container, path, entry });
}

function resolveHttp({ address, parameters, entry: found }: Given): Resolved {
  const entry = entryOf(found, "http");
  if (address.kind === "http") {
    if (entry === undefined) return ok({ kind: "http", url: address.url, entry, trusted: false });
    if (isBelow(address.url, entry.url)) return ok({ kind: "http", url: address.url, entry, trusted: true });
    if (found?.named === true) return refuse("unsuitable", `the storage settings' entry ${found.key} is for another server`);
    return ok({ kind: "http", url: address.url, entry: undefined, trusted: false });
  }
  const base = parameters["url"] ?? entry?.url;
  if (base === undefined || address.kind !== "storage")
    return refuse("settings", "neither the model nor the storage settings name the server");
  if (!isWebUrl(base)) return refuse("unsuitable", "the parameter url is no http or https URL");
  const url = new URL(base);
  const path = address.path.split("/").map(encodeURIComponent).join("/");
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/${path}`;
  return ok({ kind: "http", url: url.href, entry, trusted: parameters["url"] === undefined });
}

function resolveOci({ address, entry: found }: Given): Resolved {
  if (address.kind !== "oci") return refuse("unsuitable", "an artefact of a registry must have an oci: address");
  const { registry, repository, reference } = address;
  const entry = entryOf(found, "oci");
  if (entry !== undefined && entry.registry === registry) {
    return ok({ kind: "oci", registry, repository, reference, entry, trusted: true });
  }
  if (found?.named === true) return refuse("unsuitable", `the storage settings' entry ${found.key} is for another registry`);
  return ok({ kind: "oci", registry, repository, reference, entry: undefined, trusted: false });
}

/** Same origin, and below its path; a path that a server may read as leading upwards is not. */
function isBelow(text: string, baseText: string): boolean {
  const [url, base] = [new URL(text), new URL(baseText)];
  if (url.origin !== base.origin) return false;
  const folder = base.pathname.replace(/\/+$/, "");
  if (url.pathname !== folder && !url.pathname.startsWith(`${folder}/`)) return false;
  try {
    const below = decodeURIComponent(decodeURIComponent(url.pathname.slice(folder.length)));
    return !below.split(/[/\\]/).includes("..");
  } catch {
    return false;
  }
}

function isWebUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password, search, hash } = new URL(text);
  return /^https?:$/.test(protocol) && username === "" && password === "" && search === "" && hash === "";
}

function entryOf<T extends EntryType>(found: Given["entry"], type: T): Extract<Entry, { readonly type: T }> | undefined {
  const entry = found?.entry;
  return entry !== undefined && isOfType(entry, type) ? entry : undefined;
}

function isOfType<T extends EntryType>(entry: Entry, type: T): entry is Extract<Entry, { readonly type: T }> {
  return entry.type === type;
}

/** Where the schema lies: of a `storage:` address from the root of the storage, of any other beside or in the artefact. */
export function schemaPathOf(address: Address, schemaPath: string, single: boolean): string | undefined {
  if (address.kind === "storage") {
    const parsed = parsePath(schemaPath);
    return parsed.kind === "ok" ? parsed.path : undefined;
  }
  const path = "path" in address ? address.path : "";
  const folder = single ? path.split("/").slice(0, -1).join("/") : path;
  const parsed = parsePath(folder === "" ? schemaPath : `${folder}/${schemaPath}`);
  return parsed.kind === "ok" ? parsed.path : undefined;
}

function contradiction(): Refused {
  return refuse("unsuitable", "the model's address and its storage settings contradict each other");
}

function ok(source: Source): Resolved {
  return { kind: "ok", source };
}

function refuse(trouble: Refused["trouble"], reason: string): Refused {
  return { kind: "refused", trouble, reason };
}
