import assert from "node:assert/strict";
import { test } from "node:test";
import { type Model, parseModel, type Revision } from "#core/model.ts";
import { createShares } from "./shares.ts";

function model(name: string): Model {
  const revisions = [0, 1].map((slot) => ({ id: `r${slot}`, slot, format: "onnx", storageUri: "file:///m.onnx" }));
  const parsed = parseModel({ name, revisions, active: "r0", split: [{ revision: "r1", percent: 10 }] });
  assert.equal(parsed.kind, "ok");
  return (parsed as { model: Model }).model;
}

function open(lacking: (name: string) => readonly Revision[]) {
  const begun: string[] = [];
  const ends = new Map<string, () => void>();
  const shares = createShares({
    findModel: (name) => (name === "gone" ? undefined : model(name)),
    lacking,
    load(of, revision) {
      begun.push(`${of.name}@${revision.id}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      ends.set(of.name, resolve);
      return promise;
    },
  });
  return { shares, begun, ends };
}

const share = (name: string): readonly Revision[] => model(name).revisions.slice(1);

test("what a used model lacks is loaded, once at a time", async () => {
  const { shares, begun, ends } = open(share);
  shares.onUsed(["a", "b"]);
  shares.onUsed(["a"]);
  assert.deepEqual(begun, ["a@r1", "b@r1"]);
  ends.get("a")?.();
  await new Promise(setImmediate);
  shares.onUsed(["a", "b"]);
  assert.deepEqual(begun, ["a@r1", "b@r1", "a@r1"]);
});

test("nothing is loaded for a model that lacks nothing, or is no more", () => {
  const { shares, begun } = open((name) => (name === "whole" ? [] : share(name)));
  shares.onUsed(["whole", "gone"]);
  assert.deepEqual(begun, []);
});

test("few loads are under way at once", () => {
  const { shares, begun } = open(share);
  shares.onUsed(Array.from({ length: 100 }, (_, at) => `m${at}`));
  assert.equal(begun.length, 16);
});
