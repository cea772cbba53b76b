import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelInfoStrings } from "./info.ts";
import { readModelInfo } from "./info.ts";

const info = (more: Partial<ModelInfoStrings>): ModelInfoStrings => ({ type: "onnx", path: "", key: "", ...more });

const readings: [what: string, given: Partial<ModelInfoStrings>, expected: object][] = [
  ["a plain type is the format", { path: "s3://b/p" }, { format: "onnx", storageUri: "s3://b/p" }],
  [
    "labels of a runtime name format and version",
    { type: "mt:sklearn:1|pv:grpc-v2", path: "a/b" },
    { format: "sklearn", formatVersion: "1", storageUri: "storage:///a/b" },
  ],
  [
    "a named runtime takes the format from the key",
    { type: "rt:mlserver-1.x", path: "/a", key: '{"model_type":{"name":"xgboost","version":""}}' },
    { format: "xgboost", runtime: "mlserver-1.x", storageUri: "storage:///a" },
  ],
  [
    "the key says where, as ModelMesh Serving writes it",
    {
      type: "mt:tensorflow",
      path: "fashion",
      key: '{"storage_key":"minio","storage_params":{"bucket":"models","type":"s3"},"schema_path":"s.json","model_type":{"name":"tensorflow"},"disk_size_bytes":12}',
    },
    {
      format: "tensorflow",
      storageUri: "storage:///fashion",
      storageKey: "minio",
      storageParameters: { bucket: "models", type: "s3" },
      schemaPath: "s.json",
    },
  ],
  ["a key of another making is kept", { key: "opaque", path: "x" }, { storageParameters: { "modelmesh-key": "opaque" } }],
];

for (const [what, given, expected] of readings) {
  test(what, () => {
    const read = readModelInfo("id", info(given));
    assert.ok(read.kind === "ok", JSON.stringify(read));
    assert.deepEqual({ ...read.found, ...expected }, read.found);
  });
}

const refusals: [what: string, given: Partial<ModelInfoStrings>, reason: RegExp][] = [
  ["an empty type", { type: "" }, /type must not be empty/],
  ["a runtime without any format", { type: "rt:x" }, /names a format/],
  ["storage_params that are no object", { key: '{"storage_params":[]}' }, /storage_params/],
  ["a storage_key that is no text", { key: '{"storage_key":1}' }, /storage_key/],
  ["a format of strange characters", { type: "a b" }, /a format/],
];

for (const [what, given, reason] of refusals) {
  test(`${what} is refused`, () => {
    const read = readModelInfo("id", info(given));
    assert.ok(read.kind === "refused");
    assert.match(read.reason, reason);
  });
}
