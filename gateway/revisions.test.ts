import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "#platform/testing.ts";
import { type AdminBench, openAdminBench } from "./admin/testing.ts";

const anything = {};

const artefact = (name: string): { format: string; storageUri: string } => ({
  format: "onnx",
  storageUri: `file:///${name}.onnx`,
});

async function openWarm(copies: number, options: { pods?: number; keepMs?: number } = {}): Promise<AdminBench> {
  const bench = await openAdminBench({ pods: 4, ...options });
  const registered = await bench.models.register("m", { ...artefact("one"), revision: "one" }, anything);
  assert.equal(registered.kind, "ok");
  if (copies > 0) assert.equal((await load(bench, copies)).kind, "ok");
  return bench;
}

function load(bench: AdminBench, copies: number, revision?: string): ReturnType<AdminBench["models"]["load"]> {
  const signal = AbortSignal.timeout(30_000);
  return bench.models.load("m", {
    copies,
    wait: true,
    timeoutMs: 30_000,
    signal,
    ...(revision === undefined ? {} : { revision }),
  });
}

const add = (
  bench: AdminBench,
  id: string,
  more: { uri?: string; loadNow?: boolean } = {},
): ReturnType<AdminBench["models"]["addRevision"]> =>
  bench.models.addRevision(
    "m",
    { id, ...artefact(more.uri ?? id) },
    { activate: "when-loaded", loadNow: more.loadNow ?? false },
    anything,
  );

interface Seen {
  active: string;
  target: string | undefined;
  transition: string;
  ready: Record<string, number>;
}

function see(bench: AdminBench): Seen {
  const found = bench.models.status("m");
  assert.ok(found.kind === "ok");
  const { active, target, transition, revisionStates } = found.value;
  return { active, target, transition, ready: Object.fromEntries(revisionStates.map(({ id, copies }) => [id, copies.ready])) };
}

test("a new revision is loaded to as many copies as the active one has before the pointer moves", async () => {
  await using bench = await openWarm(3);
  assert.equal((await add(bench, "two")).kind, "ok");
  let least = Number.POSITIVE_INFINITY;
  await waitFor(() => {
    const now = see(bench);
    if (now.active === "two") least = Math.min(least, now.ready["two"] ?? 0);
    return now.active === "two";
  });
  assert.equal(least, 3);
  assert.deepEqual([see(bench).target, see(bench).transition], [undefined, "UpToDate"]);
});

test("the pointer of a cold model moves at once and loads nothing, unless a load is asked for", async () => {
  await using bench = await openWarm(0);
  const moved = await add(bench, "two");
  assert.ok(moved.kind === "ok" && moved.value.active === "two");
  assert.deepEqual(bench.sent, []);
  const targeted = await add(bench, "three", { loadNow: true });
  assert.ok(targeted.kind === "ok" && targeted.value.active === "two");
  await waitFor(() => see(bench).active === "three");
  assert.equal(see(bench).ready["three"], 1);
});

test("a target that does not load leaves the active revision serving, and the reason is told", async () => {
  await using bench = await openWarm(2);
  await add(bench, "two", { uri: "bad" });
  await waitFor(() => see(bench).transition === "BlockedByFailedLoad");
  const found = bench.models.status("m");
  assert.ok(found.kind === "ok");
  assert.deepEqual([found.value.active, found.value.state], ["one", "ready"]);
  assert.deepEqual([found.value.failure?.revision, found.value.failure?.code], ["two", "model-load-failed"]);
  assert.match(found.value.failure?.reason ?? "", /the artefact is bad/);
});

test("an edit that takes the failing one back needs no load", async () => {
  await using bench = await openWarm(2);
  await add(bench, "two", { uri: "bad" });
  await waitFor(() => see(bench).transition === "BlockedByFailedLoad");
  const back = await add(bench, "one");
  assert.ok(back.kind === "ok" && back.value.active === "one" && back.value.target === undefined);
  assert.equal(see(bench).transition, "UpToDate");
});

test("editing back, and rolling back, to a revision that is still warm moves the pointer at once", async () => {
  await using bench = await openWarm(1);
  await add(bench, "two");
  await waitFor(() => see(bench).active === "two");
  const loads = bench.sent.length;
  const back = await add(bench, "one");
  assert.ok(back.kind === "ok" && back.value.active === "one", JSON.stringify(back));
  const again = await bench.models.rollBack("m", anything);
  assert.ok(again.kind === "ok" && again.value.active === "two", JSON.stringify(again));
  assert.equal(bench.sent.length, loads);
});

test("rolling back to a revision that is cold loads it first", async () => {
  await using bench = await openWarm(1);
  await add(bench, "two");
  await waitFor(() => see(bench).active === "two");
  const found = bench.models.status("m");
  assert.ok(found.kind === "ok");
  for (const { pod, revision } of found.value.copies) if (revision === "one") bench.lose(pod, "m", "one");
  const back = await bench.models.rollBack("m", anything);
  assert.ok(back.kind === "ok" && back.value.active === "two" && back.value.target === "one");
  await waitFor(() => see(bench).active === "one");
  assert.equal(see(bench).ready["one"], 1);
});

test("a forced promotion moves the pointer whatever is loaded", async () => {
  await using bench = await openWarm(1);
  await add(bench, "two", { uri: "never" });
  const forced = await bench.models.promote("m", "two", true, anything);
  assert.ok(forced.kind === "ok" && forced.value.active === "two" && forced.value.target === undefined);
});

test("what was replaced is kept for a time, then its revision and its copies go", async () => {
  await using bench = await openWarm(1, { keepMs: 300 });
  await add(bench, "two");
  await waitFor(() => see(bench).active === "two");
  await waitFor(() => !("one" in see(bench).ready));
  await waitFor(() => bench.sent.some((line) => /^drop pod-\d m@one$/.test(line)));
  const copies = [...bench.fleet.holders("m")].map(({ copy }) => copy.revision);
  await waitFor(() => ![...bench.fleet.holders("m")].some(({ copy }) => copy.revision === "one"));
  assert.ok(copies.includes("two"));
});

test("the copies of a model that was unregistered give their room back", async () => {
  await using bench = await openWarm(2);
  await bench.models.unregister("m", anything);
  await waitFor(() => [...bench.fleet.holders("m")].length === 0);
});

test("two that set targets at once: each change is made on what the other left", async () => {
  await using bench = await openWarm(1);
  const done = await Promise.all(["two", "three", "four", "five"].map((id) => add(bench, id)));
  assert.ok(
    done.every(({ kind }) => kind === "ok"),
    JSON.stringify(done),
  );
  await waitFor(() => see(bench).target === undefined);
  const found = bench.models.status("m");
  assert.ok(found.kind === "ok");
  assert.equal(new Set(found.value.revisions.map(({ slot }) => slot)).size, found.value.revisions.length);
  assert.equal(found.value.revisions.length, 5);
});

test("minCopies holds for the target too, and a model that must be warm is never moved cold", async () => {
  await using bench = await openWarm(0);
  await bench.models.changeSettings("m", { minCopies: 2 }, anything);
  const targeted = await add(bench, "two");
  assert.ok(targeted.kind === "ok" && targeted.value.target === "two");
  await waitFor(() => see(bench).active === "two");
  assert.equal(see(bench).ready["two"], 2);
});

test("a target that does not load is not moved to when the active revision loses its last copy", async () => {
  await using bench = await openWarm(1);
  await add(bench, "two", { uri: "bad" });
  await waitFor(() => see(bench).transition === "BlockedByFailedLoad");
  loseAll(bench, "one");
  assert.equal((await load(bench, 1)).kind, "ok");
  assert.deepEqual([see(bench).active, see(bench).target], ["one", "two"]);
  // Asked for once more while the active one has no copy.
  loseAll(bench, "one");
  const again = await bench.models.promote("m", "two", false, anything);
  assert.ok(again.kind === "ok" && again.value.active === "one", JSON.stringify(again));
});

test("nor is one that is loading: if it fails, the active revision is there", async () => {
  await using bench = await openWarm(1);
  await add(bench, "two", { uri: "never" });
  await waitFor(() => bench.sent.some((line) => line.endsWith("m@two")));
  loseAll(bench, "one");
  assert.equal((await load(bench, 1)).kind, "ok");
  assert.deepEqual([see(bench).active, see(bench).target], ["one", "two"]);
});

function loseAll(bench: AdminBench, revision: string): void {
  for (const { podId, copy } of Array.from(bench.fleet.holders("m"))) {
    if (copy.revision === revision) bench.lose(podId, "m", revision);
  }
}
