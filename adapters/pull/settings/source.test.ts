// What a model may change of where an entry's credentials go, in its address and in its parameters.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAddress } from "../address.ts";
import { parseEntry } from "./entry.ts";
import { type Resolved, resolveSource } from "./source.ts";

const keys = {
  s3: { type: "s3", access_key_id: "id", secret_access_key: "secret", endpoint_url: "https://s3.example", bucket: "own" },
  gcs: { type: "gcs", client_email: "a@b", private_key: "secret", bucket: "own" },
  azure: { type: "azure", account_name: "account", container: "own" },
  http: { type: "http", url: "https://web.example/models", headers: { authorization: "secret" } },
  oci: { type: "oci", registry: "registry.example", username: "u", password: "secret" },
  hf: { type: "hf", token: "secret" },
} as const;

function resolve(entry: object, storageUri: string, parameters: Readonly<Record<string, string>> = {}): Resolved {
  const parsed = parseAddress(storageUri);
  assert.ok(parsed.kind === "ok" && parsed.address.kind !== "file", storageUri);
  const found = parseEntry(JSON.stringify(entry));
  assert.ok(found.kind === "ok", JSON.stringify(found));
  return resolveSource({ address: parsed.address, parameters, entry: { key: "mine", named: true, entry: found.entry } });
}

function reasonOf(resolved: Resolved): string {
  assert.ok(resolved.kind === "refused", JSON.stringify(resolved));
  return resolved.reason;
}

const foreign = { s3: "endpoint_url", gcs: "token_uri", azure: "account_name", http: "url", oci: "registry", hf: "endpoint_url" };
const addresses = { oci: "oci://registry.example/m:v1", hf: "hf://org/m" };

test("parameters of a model name no host that an entry's credentials go to", () => {
  for (const [type, name] of Object.entries(foreign)) {
    const storageUri = type === "oci" || type === "hf" ? addresses[type] : "storage:///m";
    const entry = keys[type as keyof typeof keys];
    assert.equal(resolve(entry, storageUri).kind, "ok", type);
    for (const parameter of [name, "endpoint_url", "connection_string", "token_uri"]) {
      const reason = reasonOf(resolve(entry, storageUri, { [parameter]: "https://evil.example" }));
      assert.match(reason, /entry mine cannot set the parameter/, `${type}: ${parameter}`);
    }
  }
});

test("an entry that allows no parameters is for its own bucket or container", () => {
  const other = { s3: "s3://other/m", gcs: "gs://other/m", azure: "azure://other/m" } as const;
  const own = { s3: "s3://own/m", gcs: "gs://own/m", azure: "azure://own/m" } as const;
  for (const type of ["s3", "gcs", "azure"] as const) {
    const closed = { ...keys[type], allow_parameters: [] };
    const parameter = type === "azure" ? "container" : "bucket";
    assert.match(reasonOf(resolve(closed, other[type])), new RegExp(`for another ${parameter}`));
    assert.match(reasonOf(resolve(closed, "storage:///m", { [parameter]: "other" })), /cannot set the parameter/);
    for (const storageUri of [own[type], "storage:///m"]) {
      const { kind, source } = { source: undefined, ...resolve(closed, storageUri) };
      assert.equal(kind, "ok");
      assert.equal(source === undefined ? undefined : Reflect.get(source, parameter), "own");
    }
    // What an operator has not closed may name others, as ModelMesh's users do.
    assert.equal(resolve(keys[type], other[type]).kind, "ok");
  }
});
