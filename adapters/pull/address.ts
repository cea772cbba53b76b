// Owns the forms of storage addresses. Pure.
// Invariants: what is parsed holds no credentials and no way upwards (`..`); every form has one meaning.
//
//   s3://BUCKET/PATH   gs://BUCKET/PATH   pvc://CLAIM/PATH   file:///PATH   hf://ORG/MODEL[:REVISION]
//   https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH   azure://HOST/CONTAINER/PATH   azure://CONTAINER/PATH
//   http(s)://HOST/PATH   oci://REGISTRY/REPOSITORY[:TAG|@DIGEST]   storage:///PATH (the entry of the settings says where)
import { parseRelativePath, showName } from "./paths.ts";

export type Address =
  | { readonly kind: "s3" | "gcs"; readonly bucket: string; readonly path: string }
  /** Without a host the account is that of the settings' entry. */
  | { readonly kind: "azure"; readonly host: string | undefined; readonly container: string; readonly path: string }
  | { readonly kind: "http"; readonly url: string }
  | { readonly kind: "pvc"; readonly claim: string; readonly path: string }
  | { readonly kind: "hf"; readonly repository: string; readonly revision: string }
  /** `reference`: a tag, or a digest such as `sha256:...`. */
  | { readonly kind: "oci"; readonly registry: string; readonly repository: string; readonly reference: string }
  | { readonly kind: "file"; readonly uri: string }
  | { readonly kind: "storage"; readonly path: string };

export type ParsedAddress =
  | { readonly kind: "ok"; readonly address: Address }
  | { readonly kind: "refused"; readonly reason: string };

export const schemes = ["s3", "gs", "azure", "https", "http", "pvc", "hf", "oci", "file", "storage"] as const;

/** Of Azure's own clouds: whoever may name the host is sent the credentials of the account that it names. */
const blobHost =
  /^[a-z0-9]{3,24}\.(?:blob\.core\.(?:windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)|z\d{1,2}\.blob\.storage\.azure\.net)$/;
const bucketName = /^[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]$/;
const containerName = /^(?:\$root|\$web|[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9]))$/;
const claimName = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/;
const hostName = /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::\d{1,5})?$/;
const repositoryPart = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;
const revisionName = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/;
const ociRepository = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const ociTag = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const ociDigest = /^sha256:[0-9a-f]{64}$/;

export function parseAddress(storageUri: string): ParsedAddress {
  const at = storageUri.indexOf(":");
  const scheme = storageUri.slice(0, Math.max(0, at));
  const rest = storageUri.slice(at + 1);
  switch (scheme) {
    case "s3":
    case "gs":
      return parseBucket(scheme, rest);
    case "azure":
      return parseAzure(rest);
    case "http":
    case "https":
      return parseWeb(storageUri);
    case "pvc":
      return parseClaim(rest);
    case "hf":
      return parseHub(rest);
    case "oci":
      return parseOci(rest);
    case "file":
      return ok({ kind: "file", uri: storageUri });
    case "storage": {
      const path = parsePath(rest.replace(/^\/*/, ""));
      return path.kind === "refused" ? path : ok({ kind: "storage", path: path.path });
    }
    default:
      return refuse(`this pod cannot fetch from ${showName(scheme)}:, only from ${schemes.map((name) => `${name}:`).join(", ")}`);
  }
}

/** For people: without a query, which may be a signature. */
export function showAddress(address: Address): string {
  switch (address.kind) {
    case "s3":
      return showName(`s3://${address.bucket}/${address.path}`);
    case "gcs":
      return showName(`gs://${address.bucket}/${address.path}`);
    case "azure":
      return showName(`azure://${address.host === undefined ? "" : `${address.host}/`}${address.container}/${address.path}`);
    case "http":
      return showUrl(address.url);
    case "pvc":
      return showName(`pvc://${address.claim}/${address.path}`);
    case "hf":
      return showName(`hf://${address.repository}:${address.revision}`);
    case "oci":
      return showName(
        `oci://${address.registry}/${address.repository}${address.reference.includes(":") ? "@" : ":"}${address.reference}`,
      );
    case "file":
      return showName(address.uri);
    case "storage":
      return showName(`storage:///${address.path}`);
  }
}

export function showUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return showName(`${origin}${pathname}`);
}

/** A path in a bucket, container or claim; empty for the whole of it. Trailing slashes say nothing. */
export function parsePath(text: string): { readonly kind: "ok"; readonly path: string } | Refused {
  const path = text.replace(/\/+$/, "");
  if (path === "") return { kind: "ok", path };
  if (path.startsWith("/")) return refuse("the path in a storage address must not begin with a slash");
  const parsed = parseRelativePath(path);
  return parsed.kind === "ok" && parsed.path === path
    ? parsed
    : refuse(
        parsed.kind === "refused" ? `the storage address is not plain: ${parsed.reason}` : "the storage address is not plain",
      );
}

type Refused = Extract<ParsedAddress, { readonly kind: "refused" }>;

function parseBucket(scheme: "s3" | "gs", rest: string): ParsedAddress {
  const split = splitRoot(rest);
  if (split === undefined || !bucketName.test(split.root) || split.root.includes("..")) {
    return refuse(`the address must look like ${scheme}://bucket/path`);
  }
  const path = parsePath(split.rest);
  if (path.kind === "refused") return path;
  return ok({ kind: scheme === "s3" ? "s3" : "gcs", bucket: split.root, path: path.path });
}

function parseAzure(rest: string): ParsedAddress {
  const form = "the address must look like azure://container/path or azure://account.blob.core.windows.net/container/path";
  const first = splitRoot(rest);
  if (first === undefined) return refuse(form);
  const named = first.root.includes(".") ? splitRoot(`//${first.rest}`) : first;
  const host = named === first ? undefined : first.root.toLowerCase();
  if (named === undefined || !containerName.test(named.root) || (host !== undefined && !blobHost.test(host))) return refuse(form);
  const path = parsePath(named.rest);
  return path.kind === "refused" ? path : ok({ kind: "azure", host, container: named.root, path: path.path });
}

function parseWeb(storageUri: string): ParsedAddress {
  const url = URL.canParse(storageUri) && /^https?:\/\/[^/]/.test(storageUri) ? new URL(storageUri) : undefined;
  if (url === undefined) return refuse("the address must look like https://host/path");
  if (url.username !== "" || url.password !== "") {
    return refuse("an address must hold no user and password: put them into an entry of the storage settings");
  }
  // One with a query carries a signature of its own, and works as any other address does.
  if (url.protocol === "https:" && blobHost.test(url.hostname) && url.port === "" && url.search === "") return parseBlobUrl(url);
  url.hash = "";
  return ok({ kind: "http", url: url.href });
}

function parseBlobUrl(url: URL): ParsedAddress {
  let path: string;
  try {
    path = decodeURIComponent(url.pathname.slice(1));
  } catch {
    return refuse("the address is not encoded as addresses are");
  }
  return parseAzure(`//${url.hostname}/${path}`);
}

function parseClaim(rest: string): ParsedAddress {
  const split = splitRoot(rest);
  if (split === undefined || !claimName.test(split.root)) return refuse("the address must look like pvc://claim/path");
  const path = parsePath(split.rest);
  return path.kind === "refused" ? path : ok({ kind: "pvc", claim: split.root, path: path.path });
}

function parseHub(rest: string): ParsedAddress {
  const form = "the address must look like hf://organisation/model or hf://organisation/model:revision";
  const found = /^\/\/([^/:]+)\/([^/:]+)(?::(.+))?$/.exec(rest);
  if (found === null) return refuse(form);
  const [, organisation = "", model = "", revision = "main"] = found;
  const plain = [organisation, model].every((part) => repositoryPart.test(part) && !part.includes(".."));
  if (!plain || !revisionName.test(revision) || /\.\.|\/\/|\/$/.test(revision)) return refuse(form);
  return ok({ kind: "hf", repository: `${organisation}/${model}`, revision });
}

function parseOci(rest: string): ParsedAddress {
  const form = "the address must look like oci://registry/repository:tag or oci://registry/repository@sha256:...";
  const split = splitRoot(rest);
  if (split === undefined || !hostName.test(split.root)) return refuse(form);
  const found = /^([^:@]+)(?::([^:@]+))?(?:@(.+))?$/.exec(split.rest);
  if (found === null) return refuse(form);
  const [, repository = "", tag, digest] = found;
  if (!ociRepository.test(repository) || repository.length > 255) return refuse(form);
  if (tag !== undefined && !ociTag.test(tag)) return refuse(form);
  if (digest !== undefined && !ociDigest.test(digest)) return refuse(form);
  return ok({ kind: "oci", registry: split.root.toLowerCase(), repository, reference: digest ?? tag ?? "latest" });
}

/** `//root/rest`, with nothing between them that a URL parser would read differently. */
function splitRoot(text: string): { readonly root: string; readonly rest: string } | undefined {
  if (!text.startsWith("//")) return undefined;
  const at = text.indexOf("/", 2);
  const root = at === -1 ? text.slice(2) : text.slice(2, at);
  return root === "" ? undefined : { root, rest: at === -1 ? "" : text.slice(at + 1) };
}

function ok(address: Address): ParsedAddress {
  return { kind: "ok", address: Object.freeze(address) };
}

function refuse(reason: string): Refused {
  return { kind: "refused", reason };
}
