// Where artefacts lie, in ModelMesh's words.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createUnfetched, placeOf } from "./unfetched.ts";

describe("an artefact that the model server fetches by itself", () => {
  const cases = {
    "storage:///a/b": { path: "a/b", parameters: {} },
    "s3://bucket/a/b": { path: "a/b", parameters: { type: "s3", bucket: "bucket" } },
    "gs://bucket/a": { path: "a", parameters: { type: "gcs", bucket: "bucket" } },
    "pvc://claim/a": { path: "a", parameters: { type: "pvc", name: "claim" } },
    "https://acc.blob.core.windows.net/box/a/b": {
      path: "a/b",
      parameters: { type: "azure", container: "box", account_name: "acc" },
    },
    "https://host:8443/a%20b/c?sig=1": { path: "a b/c", parameters: { type: "http", url: "https://host:8443?sig=1" } },
    "hf://org/model": { path: "hf://org/model", parameters: {} },
    "no address": { path: "no address", parameters: {} },
  } as const;
  for (const [storageUri, place] of Object.entries(cases)) {
    test(`${storageUri} is ${place.path}`, () => {
      assert.deepEqual(placeOf({ storageUri }), place);
    });
  }

  test("what its address says counts more than its parameters", () => {
    const storageParameters = { bucket: "other", region: "eu" };
    assert.deepEqual(placeOf({ storageUri: "s3://bucket/a", storageParameters }).parameters, {
      type: "s3",
      bucket: "bucket",
      region: "eu",
    });
  });

  test("is not pulled", async () => {
    const puller = createUnfetched();
    const never = new AbortController().signal;
    assert.deepEqual(await puller.probe({ storageUri: "s3://bucket/a" }, never), { kind: "ok", sizeBytes: 0 });
    const pulled = await puller.pull({ storageUri: "s3://bucket/a" }, never);
    assert.equal(pulled.kind === "ok" && pulled.path, "a");
  });
});
