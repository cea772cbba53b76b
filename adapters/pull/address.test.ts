import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { array, assert as check, constantFrom, oneof, property, string, tuple } from "fast-check";
import { type Address, parseAddress, showAddress } from "./address.ts";
import { baseName, parseRelativePath } from "./paths.ts";

const digest = `sha256:${"a".repeat(64)}`;

describe("storage addresses", () => {
  const good: readonly (readonly [string, Address])[] = [
    ["s3://bucket/a/b.onnx", { kind: "s3", bucket: "bucket", path: "a/b.onnx" }],
    ["s3://bucket/a/", { kind: "s3", bucket: "bucket", path: "a" }],
    ["s3://bucket", { kind: "s3", bucket: "bucket", path: "" }],
    ["s3://bucket/a%20b?c#d", { kind: "s3", bucket: "bucket", path: "a%20b?c#d" }],
    ["gs://my_bucket.example/a b", { kind: "gcs", bucket: "my_bucket.example", path: "a b" }],
    ["pvc://claim-1/models/m", { kind: "pvc", claim: "claim-1", path: "models/m" }],
    ["azure://models/iris", { kind: "azure", host: undefined, container: "models", path: "iris" }],
    [
      "azure://acc0unt.blob.core.windows.net/models/iris",
      { kind: "azure", host: "acc0unt.blob.core.windows.net", container: "models", path: "iris" },
    ],
    [
      "https://acc0unt.blob.core.windows.net/models/a%20b/c",
      { kind: "azure", host: "acc0unt.blob.core.windows.net", container: "models", path: "a b/c" },
    ],
    [
      "https://acc0unt.z12.blob.storage.azure.net/models/m",
      { kind: "azure", host: "acc0unt.z12.blob.storage.azure.net", container: "models", path: "m" },
    ],
    ["https://acc0unt.blob.evil.example/models/m", { kind: "http", url: "https://acc0unt.blob.evil.example/models/m" }],
    [
      "https://acc0unt.blob.core.windows.net.evil.example/models/m",
      { kind: "http", url: "https://acc0unt.blob.core.windows.net.evil.example/models/m" },
    ],
    ["https://host:8443/a/m.tar.gz?x=1#part", { kind: "http", url: "https://host:8443/a/m.tar.gz?x=1" }],
    ["http://[::1]:80/m", { kind: "http", url: "http://[::1]/m" }],
    [
      "https://acc0unt.blob.core.windows.net/models/m?sig=s",
      { kind: "http", url: "https://acc0unt.blob.core.windows.net/models/m?sig=s" },
    ],
    ["hf://org/model", { kind: "hf", repository: "org/model", revision: "main" }],
    ["hf://org/model:v1.0/x", { kind: "hf", repository: "org/model", revision: "v1.0/x" }],
    ["oci://ghcr.io/a/b", { kind: "oci", registry: "ghcr.io", repository: "a/b", reference: "latest" }],
    ["oci://localhost:5000/a/b-c:v1", { kind: "oci", registry: "localhost:5000", repository: "a/b-c", reference: "v1" }],
    [`oci://ghcr.io/a:v1@${digest}`, { kind: "oci", registry: "ghcr.io", repository: "a", reference: digest }],
    ["storage:///a/b", { kind: "storage", path: "a/b" }],
    ["storage:a", { kind: "storage", path: "a" }],
    ["storage:///", { kind: "storage", path: "" }],
    ["file:///a", { kind: "file", uri: "file:///a" }],
  ];
  for (const [uri, address] of good) {
    test(`${uri} is understood`, () => assert.deepEqual(parseAddress(uri), { kind: "ok", address }));
  }

  const bad: readonly (readonly [string, RegExp])[] = [
    ["s3://bucket/a/../b", /the part \.\./],
    ["s3://bucket/..", /the part \.\./],
    ["s3://bucket/a/.", /the part \./],
    ["s3://bucket//a", /must not begin with a slash/],
    ["s3://bucket/a//b", /empty part/],
    ["s3://bucket/a\\..\\b", /backslash/],
    ["s3://bucket/./a", /not plain/],
    [`s3://bucket/${"a/".repeat(70)}b`, /nested/],
    [`s3://bucket/${"a".repeat(300)}`, /longer than 255/],
    ["s3://a..b/c", /look like s3:/],
    ["s3://user:pass@bucket/c", /look like s3:/],
    ["s3:bucket/c", /look like s3:/],
    ["gs:///c", /look like gs:/],
    ["pvc://../c", /look like pvc:/],
    ["pvc://claim/../../etc", /the part \.\./],
    ["azure://evil.example/models/iris", /look like azure:/],
    ["azure://account.blob.core.windows.net", /look like azure:/],
    ["azure://account.blob.evil.example/models/m", /look like azure:/],
    ["azure://account.blob.core.windows.net.evil.example/models/m", /look like azure:/],
    ["https://acc0unt.blob.core.windows.net/models/%2e%2e/x", /look like azure|the part/],
    ["https://acc0unt.blob.core.windows.net/models/a%2F..%2F..%2Fx", /the part \.\./],
    ["https://user:password@host/m", /no user and password/],
    ["https:///m", /look like https:/],
    ["https:host/m", /look like https:/],
    ["http://ho st/m", /look like https:/],
    ["hf://model", /look like hf:/],
    ["hf://org/model:../x", /look like hf:/],
    ["hf://org/..", /look like hf:/],
    ["oci://registry", /look like oci:/],
    ["oci://user@registry/a", /look like oci:/],
    ["oci://registry/A", /look like oci:/],
    ["oci://registry/a:b:c", /look like oci:/],
    ["oci://registry/a/../b", /look like oci:/],
    ["oci://registry/a@sha256:zz", /look like oci:/],
    ["storage:///../x", /the part \.\./],
    ["hdfs://node/a", /cannot fetch from hdfs:/],
    ["constructor:x", /cannot fetch from constructor:/],
  ];
  for (const [uri, reason] of bad) {
    test(`${uri.slice(0, 60)} is refused`, () => {
      const parsed = parseAddress(uri);
      assert.ok(parsed.kind === "refused", JSON.stringify(parsed));
      assert.match(parsed.reason, reason);
      assert.ok(!parsed.reason.includes("password@"));
    });
  }

  test("are shown without their query", () => {
    const parsed = parseAddress("https://host/m?X-Amz-Signature=secret");
    assert.ok(parsed.kind === "ok");
    assert.equal(showAddress(parsed.address), "https://host/m");
  });

  test("of any text are understood or refused, and never lead upwards", () => {
    const piece = constantFrom(
      "..",
      ".",
      "/",
      "//",
      "\\",
      "\0",
      "%2e",
      "%2F",
      "a",
      "é",
      "e\u0301",
      "\uD800",
      ":",
      "@",
      "?",
      "#",
      " ",
    );
    const scheme = constantFrom("s3://", "gs://", "azure://", "https://", "pvc://", "hf://", "oci://", "storage:///", "s3:", "");
    const text = tuple(scheme, array(oneof(piece, string({ maxLength: 5 })), { maxLength: 12 }));
    check(
      property(text, ([scheme, parts]) => {
        const parsed = parseAddress(scheme + parts.join(""));
        if (parsed.kind === "refused") {
          assert.match(parsed.reason, /^[\x20-\x7E]{1,500}$/);
          return;
        }
        const { address } = parsed;
        assert.match(showAddress(address), /^[\x20-\x7E]{1,140}$/);
        if ("path" in address) assert.ok(!address.path.split("/").some((part) => part === ".." || part === "."));
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("names inside an artefact", () => {
  test("are plain relative paths", () => {
    assert.deepEqual(parseRelativePath("./1/model.onnx"), { kind: "ok", path: "1/model.onnx" });
    assert.deepEqual(parseRelativePath("dir/"), { kind: "ok", path: "dir" });
    assert.deepEqual(parseRelativePath("..a/b..c"), { kind: "ok", path: "..a/b..c" });
    for (const odd of [
      "",
      "/",
      "/etc/passwd",
      "..",
      "a/../b",
      "a/./b",
      "a//b",
      "a\0b",
      "a\\b",
      "a\nb",
      "\uD800",
      "a\uFFFDb",
      "x".repeat(256),
    ]) {
      assert.equal(parseRelativePath(odd).kind, "refused", JSON.stringify(odd));
    }
  });

  test("have a last part to call the artefact by", () => {
    assert.equal(baseName("a/b.onnx"), "b.onnx");
    assert.equal(baseName("a/b/"), "b");
    for (const nameless of ["", "/", "..", "a/.."]) assert.equal(baseName(nameless), "_model");
  });
});
