// What an object makes of its record, step by step.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Model } from "#core/model.ts";
import { promote } from "#core/revision.ts";
import { parseObject } from "../engine/objects.ts";
import { buildRecord, type Desired } from "./desired.ts";
import { parseInferenceService, parseModelObject, type Source } from "./source.ts";

const nowMs = 1_000_000;

function inferenceService(storageUri: string, annotations: Readonly<Record<string, string>> = {}): Source {
  const object = parseObject({
    metadata: {
      name: "m",
      namespace: "shop",
      uid: "u",
      annotations: { "serving.kserve.io/deploymentMode": "ModelMesh", ...annotations },
    },
    spec: { predictor: { model: { modelFormat: { name: "onnx" }, storageUri } } },
  });
  assert.ok(object);
  const source = parseInferenceService(object);
  assert.ok(source);
  return source;
}

function build(source: Source, current?: Model): Desired {
  const placed = source.revisions.map((revision) => ({ revision, runtime: "onnx", formatVersion: undefined }));
  return buildRecord(source, placed, current, nowMs);
}

function modelOf(desired: Desired): Model {
  if (desired.kind !== "ok") assert.fail(JSON.stringify(desired));
  return desired.model;
}

describe("the record of an object", () => {
  test("begins with its one revision, named after its content, in slot 0", () => {
    const model = modelOf(build(inferenceService("s3://a/b", { "warmpath.dev/min-copies": "2" })));
    assert.match(model.active, /^m__isvc-[0-9a-f]{10}$/);
    assert.deepEqual([model.revisions[0]?.slot, model.target, model.tenant, model.minCopies], [0, undefined, "shop", 2]);
  });

  test("stays the very same value while nothing changes, so that nothing is written", () => {
    const first = modelOf(build(inferenceService("s3://a/b")));
    assert.equal(modelOf(build(inferenceService("s3://a/b"), first)), first);
  });

  test("gets a target by an edit, that is loaded before it takes over, whatever became of the active one's copies", () => {
    const first = modelOf(build(inferenceService("s3://a/b")));
    const edited = modelOf(build(inferenceService("s3://a/c"), first));
    assert.equal(edited.active, first.active);
    assert.notEqual(edited.target, undefined);
    assert.equal(edited.loadNow, true);
    assert.equal(modelOf(build(inferenceService("s3://a/c"), edited)), edited);
  });

  test("loses its target by an edit back, and goes back to a revision that was active before", () => {
    const first = modelOf(build(inferenceService("s3://a/b")));
    const edited = modelOf(build(inferenceService("s3://a/c"), first));
    const back = modelOf(build(inferenceService("s3://a/b"), edited));
    assert.deepEqual([back.active, back.target], [first.active, undefined]);
    const moved = promote(edited, edited.target ?? "", nowMs);
    assert.equal(moved.kind, "ok");
    const again = modelOf(build(inferenceService("s3://a/b"), moved.kind === "ok" ? moved.model : undefined));
    assert.equal(again.target, first.active);
  });

  test("is not taken from another owner", () => {
    const first = modelOf(build(inferenceService("s3://a/b")));
    const other = { ...inferenceService("s3://a/b"), owner: "ksp" as const };
    assert.deepEqual(build(other, first), { kind: "taken", by: "isvc" });
    const { labels: _, ...unmarked } = first;
    assert.deepEqual(build(inferenceService("s3://a/b"), unmarked), { kind: "taken", by: "the management API" });
  });

  test("refuses what a record cannot hold, in a sentence", () => {
    const refused = build(inferenceService("nowhere"));
    assert.equal(refused.kind, "refused");
    assert.match(refused.kind === "refused" ? refused.reason : "", /storageUri must begin with its scheme/);
  });

  test("of our own kind: shares wait until another one than theirs is active", () => {
    const model = (active: string, split: unknown): Source => {
      const revision = (name: string): unknown => ({ name, format: "onnx", storageUri: `s3://a/${name}` });
      const object = parseObject({
        metadata: { name: "m", namespace: "shop", uid: "u" },
        spec: { revisions: [revision("v1"), revision("v2")], active, split },
      });
      assert.ok(object);
      return parseModelObject(object);
    };
    const first = modelOf(build(model("v1", [{ revision: "v2", percent: 10 }])));
    assert.deepEqual(
      first.split?.map(({ percent }) => percent),
      [10],
    );
    const turned = modelOf(build(model("v2", [{ revision: "v1", percent: 10 }]), first));
    assert.match(turned.target ?? "", /^v2-/);
    assert.deepEqual(turned.split ?? [], []);
  });
});
