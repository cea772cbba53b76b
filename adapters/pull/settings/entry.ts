// Owns the form of one entry of the storage settings: the JSON that the secret `storage-config` holds under a key.
// Pure. A reason never repeats a value: values are secrets.
import { isRecord, own } from "#core/fields.ts";

interface Shared {
  /** What a model's parameters may set; what is usual for the type when absent. */
  readonly allowParameters: readonly ParameterName[] | undefined;
}

export interface S3Entry extends Shared {
  readonly type: "s3";
  readonly accessKeyId: string | undefined;
  readonly secretAccessKey: string | undefined;
  readonly sessionToken: string | undefined;
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  readonly bucket: string | undefined;
  readonly certificate: string | undefined;
}

export interface GcsEntry extends Shared {
  readonly type: "gcs";
  readonly clientEmail: string | undefined;
  readonly privateKey: string | undefined;
  readonly tokenUri: string | undefined;
  readonly endpoint: string | undefined;
  readonly bucket: string | undefined;
}

export interface AzureEntry extends Shared {
  readonly type: "azure";
  readonly accountName: string | undefined;
  readonly container: string | undefined;
  readonly connectionString: string | undefined;
  readonly clientId: string | undefined;
  readonly clientSecret: string | undefined;
  readonly tenantId: string | undefined;
}

export interface HttpEntry extends Shared {
  readonly type: "http";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly certificate: string | undefined;
  readonly clientCertificate: string | undefined;
  readonly clientKey: string | undefined;
}

export interface HubEntry extends Shared {
  readonly type: "hf";
  readonly token: string | undefined;
  readonly endpoint: string | undefined;
}

export interface OciEntry extends Shared {
  readonly type: "oci";
  readonly registry: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
}

export interface PvcEntry extends Shared {
  readonly type: "pvc";
  readonly name: string;
}

export type Entry = S3Entry | GcsEntry | AzureEntry | HttpEntry | HubEntry | OciEntry | PvcEntry;

export type EntryType = Entry["type"];

export const entryTypes: readonly EntryType[] = ["s3", "gcs", "azure", "http", "hf", "oci", "pvc"];

/** All that a model's parameters can set, if the entry lets them; `type` besides, which must be the entry's. */
export const parameterNames = ["bucket", "container", "region", "endpoint_url", "account_name", "url", "name"] as const;

export type ParameterName = (typeof parameterNames)[number];

export type ParsedEntry =
  | { readonly kind: "ok"; readonly entry: Entry }
  | { readonly kind: "malformed"; readonly reason: string };

class Malformed extends Error {
  override readonly name = "Malformed";
}

export function parseEntry(text: string): ParsedEntry {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return { kind: "malformed", reason: "is no JSON" };
  }
  if (!isRecord(json)) return { kind: "malformed", reason: "is no JSON object" };
  try {
    return { kind: "ok", entry: Object.freeze(read(json)) };
  } catch (error) {
    if (error instanceof Malformed) return { kind: "malformed", reason: error.message };
    throw error;
  }
}

function read(json: Readonly<Record<string, unknown>>): Entry {
  const type = own(json, "type");
  if (type === "hdfs" || type === "webhdfs") throw new Malformed(`is of type ${type}, which is not supported`);
  const known = entryTypes.find((each) => each === type);
  if (known === undefined) throw new Malformed(`must have one of the types ${entryTypes.join(", ")}`);
  const text = (name: string): string | undefined => {
    const value = own(json, name);
    if (value === undefined || value === "") return undefined;
    if (typeof value !== "string") throw new Malformed(`has a ${name} that is no text`);
    return value;
  };
  const needed = (name: string): string => {
    const value = text(name);
    if (value === undefined) throw new Malformed(`of type ${known} must have ${name}`);
    return value;
  };
  const together = (...names: readonly string[]): void => {
    const there = names.filter((name) => text(name) !== undefined);
    if (there.length > 0 && there.length < names.length)
      throw new Malformed(`must have all of ${names.join(", ")} or none of them`);
  };
  const url = (name: string): string | undefined => {
    const value = text(name);
    if (value === undefined) return undefined;
    const parsed = URL.canParse(value) ? new URL(value) : undefined;
    if (parsed === undefined || !/^https?:$/.test(parsed.protocol))
      throw new Malformed(`has a ${name} that is no http or https URL`);
    if (parsed.username !== "" || parsed.password !== "") throw new Malformed(`has a ${name} with a user and password`);
    return value;
  };
  const shared: Shared = { allowParameters: readAllowed(json) };
  switch (known) {
    case "s3":
      together("access_key_id", "secret_access_key");
      return {
        ...shared,
        type: known,
        accessKeyId: text("access_key_id"),
        secretAccessKey: text("secret_access_key"),
        sessionToken: text("session_token"),
        endpoint: url("endpoint_url"),
        region: text("region"),
        bucket: text("bucket") ?? text("default_bucket"),
        certificate: text("certificate"),
      };
    case "gcs":
      together("private_key", "client_email");
      return {
        ...shared,
        type: known,
        clientEmail: text("client_email"),
        privateKey: text("private_key"),
        tokenUri: url("token_uri"),
        endpoint: url("endpoint_url"),
        bucket: text("bucket") ?? text("default_bucket"),
      };
    case "azure":
      together("client_id", "client_secret", "tenant_id");
      return {
        ...shared,
        type: known,
        accountName: text("account_name"),
        container: text("container"),
        connectionString: text("connection_string"),
        clientId: text("client_id"),
        clientSecret: text("client_secret"),
        tenantId: text("tenant_id"),
      };
    case "http":
      together("client_certificate", "client_key");
      needed("url");
      return {
        ...shared,
        type: known,
        url: url("url") ?? "",
        headers: readHeaders(json),
        certificate: text("certificate"),
        clientCertificate: text("client_certificate"),
        clientKey: text("client_key"),
      };
    case "hf":
      return { ...shared, type: known, token: text("token"), endpoint: url("endpoint_url") };
    case "oci":
      together("username", "password");
      return {
        ...shared,
        type: known,
        registry: needed("registry").toLowerCase(),
        username: text("username"),
        password: text("password"),
      };
    case "pvc":
      return { ...shared, type: known, name: needed("name") };
  }
}

function readAllowed(json: Readonly<Record<string, unknown>>): readonly ParameterName[] | undefined {
  const value = own(json, "allow_parameters");
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw new Malformed("has allow_parameters that are no list");
  return value.map((name: unknown) => {
    const known = parameterNames.find((each) => each === name);
    if (known === undefined) throw new Malformed(`has allow_parameters other than ${parameterNames.join(", ")}`);
    return known;
  });
}

const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;
const headerValue = /^[\t\x20-\x7E\x80-\xFF]*$/;
/** What the transfer itself decides. */
const reservedHeaders = /^(?:host|range|if-.*|connection|content-length|transfer-encoding|accept-encoding|upgrade|te|trailer)$/i;

function readHeaders(json: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  const value = own(json, "headers");
  if (value === undefined) return {};
  if (!isRecord(value)) throw new Malformed("has headers that are no object");
  const headers: Record<string, string> = {};
  for (const [name, given] of Object.entries(value)) {
    const list: readonly unknown[] = Array.isArray(given) ? given : [given];
    if (!headerName.test(name) || reservedHeaders.test(name)) throw new Malformed("has a header of a name that is not allowed");
    const texts = list.filter((each) => typeof each === "string" && headerValue.test(each));
    if (texts.length !== list.length || texts.length === 0) throw new Malformed("has a header whose value is no text");
    headers[name.toLowerCase()] = texts.join(", ");
  }
  return Object.freeze(headers);
}
