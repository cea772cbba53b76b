import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type Model, maxRevisions, parseModel } from "./model.ts";
import {
  addRevision,
  type Changed,
  changeSettings,
  failTarget,
  nextPruneMs,
  previousRevision,
  promote,
  pruneRevisions,
  type RevisionSpec,
  removeRevision,
  rollBack,
  setMirror,
  setSplit,
  setTarget,
  specText,
} from "./revision.ts";

const spec = (id: string): RevisionSpec => ({
  id: id as RevisionSpec["id"],
  format: "onnx",
  storageUri: `s3://models/${id}`,
  sizeHintBytes: undefined,
});

function model(...ids: string[]): Model {
  const parsed = parseModel({
    name: "m",
    revisions: ids.map((id, slot) => ({ ...spec(id), slot })),
    active: ids[0],
  });
  assert.ok(parsed.kind === "ok", JSON.stringify(parsed));
  return parsed.model;
}

function must(changed: Changed): Model {
  assert.ok(changed.kind === "ok", JSON.stringify(changed));
  return changed.model;
}

const codeOf = (changed: Changed): string | undefined => (changed.kind === "refused" ? changed.code : undefined);
const keep = { ms: 60_000, count: 2 };

test("a revision takes the lowest free slot, and the same spec again changes nothing", () => {
  const one = must(addRevision(model("a"), spec("b")));
  assert.equal(one.revisions[1]?.slot, 1);
  assert.equal(must(addRevision(one, spec("b"))), one);
  assert.equal(codeOf(addRevision(one, { ...spec("b"), storageUri: "s3://models/other" })), "already-exists");
});

test("the pointer moves from active over target, and the one before is remembered", () => {
  const targeted = must(setTarget(model("a", "b"), "b", 5));
  assert.deepEqual([targeted.active, targeted.target], ["a", "b"]);
  const moved = must(promote(targeted, "b", 10));
  assert.deepEqual([moved.active, moved.target, moved.retired], ["b", undefined, [{ revision: "a", atMs: 10, served: true }]]);
  assert.equal(previousRevision(moved), "a");
});

test("editing back to the active revision takes the target away, with its failure", () => {
  const targeted = must(setTarget(model("a", "b"), "b", 5));
  const failed = must(failTarget(targeted, { revision: "b", code: "model-load-failed", reason: "broken", atMs: 7 }));
  assert.equal(failed.failure?.reason, "broken");
  const back = must(setTarget(failed, "a", 9));
  assert.deepEqual([back.active, back.target, back.failure], ["a", undefined, undefined]);
});

test("a failing target leaves the active revision, and the same failure again writes nothing", () => {
  const targeted = must(setTarget(model("a", "b"), "b", 5));
  const failed = must(failTarget(targeted, { revision: "b", code: "pod-failed", reason: "x".repeat(5_000), atMs: 7 }));
  assert.equal(failed.active, "a");
  assert.equal(failed.failure?.reason.length, 1_000);
  assert.equal(must(failTarget(failed, { revision: "b", code: "pod-failed", reason: "x".repeat(5_000), atMs: 8 })), failed);
  // A failure that comes late, of a revision that is no target any more, says nothing.
  assert.equal(must(failTarget(failed, { revision: "a", code: "pod-failed", reason: "late", atMs: 8 })), failed);
});

test("rolling back goes to the revision that served before, never to a target that did not", () => {
  const moved = must(promote(model("a", "b", "c"), "b", 1));
  const targeted = must(setTarget(moved, "c", 2));
  const withdrawn = must(rollBack(targeted, 3, () => false));
  assert.deepEqual([withdrawn.active, withdrawn.target], ["b", undefined]);
  const warm = must(rollBack(withdrawn, 4, () => true));
  assert.deepEqual([warm.active, warm.target], ["a", undefined]);
  const cold = must(rollBack(withdrawn, 4, () => false));
  assert.deepEqual([cold.active, cold.target], ["b", "a"]);
  assert.equal(codeOf(rollBack(model("a"), 1, () => true)), "revision-not-found");
});

test("rolling back twice leads forward again", () => {
  const moved = must(promote(model("a", "b"), "b", 1));
  const back = must(rollBack(moved, 2, () => true));
  assert.equal(must(rollBack(back, 3, () => true)).active, "b");
});

test("what was retired goes after its time, and earlier when there are too many", () => {
  let now = must(promote(model("a", "b", "c", "d"), "b", 1_000));
  now = must(promote(now, "c", 2_000));
  now = must(promote(now, "d", 3_000));
  const two = must(pruneRevisions(now, 4_000, keep));
  assert.deepEqual(
    two.revisions.map(({ id }) => id),
    ["b", "c", "d"],
  );
  assert.equal(nextPruneMs(two, keep), 62_000);
  const one = must(pruneRevisions(two, 62_500, keep));
  assert.deepEqual(
    one.revisions.map(({ id }) => id),
    ["c", "d"],
  );
  assert.equal(must(pruneRevisions(one, 62_600, keep)), one);
});

test("a revision that never was in use is kept until it is removed", () => {
  const staged = must(addRevision(model("a"), spec("b")));
  assert.equal(must(pruneRevisions(staged, 1e12, keep)), staged);
  assert.deepEqual(
    must(removeRevision(staged, "b")).revisions.map(({ id }) => id),
    ["a"],
  );
});

test("what gets a share of the traffic is neither pruned nor removed", () => {
  const moved = must(promote(model("a", "b"), "b", 1));
  const split = must(setSplit(moved, [{ revision: "a", percent: 10 }]));
  assert.equal(must(pruneRevisions(split, 1e12, keep)), split);
  assert.equal(codeOf(removeRevision(split, "a")), "invalid-request");
  const promoted = must(promote(split, "a", 2));
  assert.equal(promoted.split, undefined);
  const mirrored = must(setMirror(promoted, { revision: "b", percent: 100 }));
  assert.equal(codeOf(removeRevision(mirrored, "b")), "invalid-request");
  assert.equal(must(setMirror(mirrored, undefined)).mirror, undefined);
});

test("when all slots are taken the revision retired first makes way, and none in use does", () => {
  const ids = Array.from({ length: maxRevisions }, (_, at) => `r${at}`);
  const full = model(...ids);
  assert.equal(codeOf(addRevision(full, spec("new"))), "invalid-request");
  const moved = must(promote(full, "r1", 5));
  const added = must(addRevision(moved, spec("new")));
  assert.ok(!added.revisions.some(({ id }) => id === "r0"));
  assert.equal(added.revisions.find(({ id }) => id === "new")?.slot, 0);
});

test("settings change without a revision, and bad ones are refused", () => {
  assert.equal(must(changeSettings(model("a"), { minCopies: 2 })).minCopies, 2);
  assert.equal(must(changeSettings(must(changeSettings(model("a"), { pinned: true })), { pinned: undefined })).pinned, undefined);
  assert.equal(codeOf(changeSettings(model("a"), { minCopies: 3, maxCopies: 1 })), "invalid-request");
});

test("the text of a spec does not depend on the order of its settings", () => {
  const { id: _a, ...one } = { ...spec("a"), requiredLabels: { x: "1", y: "2" } };
  const { id: _b, ...other } = { ...spec("a"), requiredLabels: { y: "2", x: "1" } };
  assert.equal(specText(one), specText(other));
  const { id: _c, ...third } = { ...spec("a"), preferredLabels: { y: "2", x: "1" } };
  assert.notEqual(specText(one), specText(third));
});

test("whatever is done in whatever order, the record can be read back and the active revision stays", () => {
  const id = fc.constantFrom("a", "b", "c", "d", "e", "f");
  const step = fc.oneof(
    id.map((name) => (now: Model) => addRevision(now, spec(name))),
    fc.tuple(id, fc.boolean()).map(
      ([name, loadNow]) =>
        (now: Model, at: number) =>
          setTarget(now, name, at, { loadNow }),
    ),
    id.map((name) => (now: Model, at: number) => promote(now, name, at)),
    id.map((name) => (now: Model, at: number) => failTarget(now, { revision: name, code: "pod-failed", reason: "r", atMs: at })),
    fc.boolean().map((warm) => (now: Model, at: number) => rollBack(now, at, () => warm)),
    fc.nat(3_000).map((ms) => (now: Model, at: number) => pruneRevisions(now, at, { ms, count: 1 })),
    id.map((name) => (now: Model) => removeRevision(now, name)),
    fc.tuple(id, fc.integer({ min: 1, max: 100 })).map(
      ([revision, percent]) =>
        (now: Model) =>
          setSplit(now, [{ revision, percent }]),
    ),
    id.map((revision) => (now: Model) => setMirror(now, { revision, percent: 5 })),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      let now = model("a");
      let atMs = 0;
      for (const apply of steps) {
        atMs += 500;
        const before = now.active;
        const changed = apply(now, atMs);
        if (changed.kind === "refused") continue;
        now = changed.model;
        const back = parseModel(JSON.parse(JSON.stringify(now)));
        assert.ok(back.kind === "ok", JSON.stringify(back));
        assert.equal(JSON.stringify(back.model), JSON.stringify(now));
        assert.ok(
          now.revisions.some(({ id: known }) => known === before),
          "what served a moment ago is still there",
        );
      }
    }),
    { numRuns: 300 },
  );
});
