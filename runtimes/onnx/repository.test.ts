import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { findDatatype } from "./datatypes.ts";
import { Refusal } from "./refusal.ts";
import { type Lease, Repository } from "./repository.ts";
import { addConstantGraph, buildGraph, buildNode, forestGraph } from "./testing/graphs.ts";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "warm-onnx-"));
});
after(async () => rm(folder, { recursive: true, force: true }));

async function write(name: string, model: Uint8Array | string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, model);
  return path;
}

function lease(repository: Repository, name: string): Lease {
  const found = repository.lease(name, undefined);
  assert.ok(!(found instanceof Refusal));
  return found;
}

/** What the model makes of 0: its addend. */
async function ask(held: Lease): Promise<number> {
  const datatype = findDatatype("FP32");
  assert.ok(datatype);
  const outputs = await held.session.run([{ name: "x", datatype, shape: [1, 2], elements: new Float32Array(2) }], ["y"]);
  assert.ok(!(outputs instanceof Refusal));
  return Number(outputs[0]?.elements[0]);
}

test("the same revision is loaded once, also when asked for at the same time", async () => {
  await using repository = new Repository();
  const path = await write("once.onnx", addConstantGraph(1));
  const loads = await Promise.all(Array.from({ length: 4 }, () => repository.load("m", { path, revision: "r1" })));
  assert.deepEqual(
    loads.map((loaded) => "loadMs" in loaded && loaded.loadMs > 0),
    [true, false, false, false],
  );
  assert.equal(repository.count, 1);
  const [entry] = repository.index();
  assert.deepEqual({ ...entry, sizeBytes: 0 }, { name: "m", revision: "r1", state: "READY", sizeBytes: 0 });
  assert.equal(repository.usedBytes, entry?.sizeBytes);
});

test("another revision takes the name; a request in flight ends on the old one", async () => {
  await using repository = new Repository();
  await repository.load("m", { path: await write("old.onnx", addConstantGraph(1)), revision: "r1" });
  const old = lease(repository, "m");
  const reload = repository.load("m", { path: await write("new.onnx", addConstantGraph(2)), revision: "r2" });
  assert.equal(await Promise.race([reload.then(() => "done"), untilRevision(repository, "r2")]), "serving");
  assert.equal(await ask(old), 1);
  using fresh = lease(repository, "m");
  assert.equal(await ask(fresh), 2);
  old[Symbol.dispose]();
  assert.ok("sizeBytes" in (await reload));
  await assert.rejects(async () => ask(old));
});

async function untilRevision(repository: Repository, revision: string): Promise<string> {
  while (repository.index()[0]?.revision !== revision) await new Promise(setImmediate);
  await new Promise(setImmediate);
  return "serving";
}

test("a reload that fails leaves the old revision serving", async () => {
  await using repository = new Repository();
  await repository.load("m", { path: await write("good.onnx", addConstantGraph(3)), revision: "r1" });
  const failed = await repository.load("m", { path: await write("bad.onnx", "no model"), revision: "r2" });
  assert.equal("kind" in failed && failed.kind, "model");
  using held = lease(repository, "m");
  assert.equal(await ask(held), 3);
  assert.equal(repository.index()[0]?.revision, "r1");
});

test("unload takes the model away at once and waits for its requests", async () => {
  await using repository = new Repository();
  const path = await write("busy.onnx", addConstantGraph(1));
  await repository.load("m", { path, revision: "r1" });
  const held = lease(repository, "m");
  const unloaded = repository.unload("m", 5_000);
  await new Promise(setImmediate);
  assert.ok(repository.lease("m", undefined) instanceof Refusal);
  assert.equal(await ask(held), 1);
  held[Symbol.dispose]();
  held[Symbol.dispose]();
  assert.equal(await unloaded, 0);
  assert.equal(repository.usedBytes, 0);
});

test("unload gives up waiting, and the request still ends well", async () => {
  await using repository = new Repository();
  await repository.load("m", { path: await write("slow.onnx", addConstantGraph(1)), revision: "r1" });
  const held = lease(repository, "m");
  assert.equal(await repository.unload("m", 1), 1);
  assert.equal(await ask(held), 1);
  held[Symbol.dispose]();
  assert.equal(await repository.unload("m", 1), 0);
});

test("load, unload and load again in the order asked", async () => {
  await using repository = new Repository();
  const path = await write("order.onnx", addConstantGraph(1));
  await Promise.all([
    repository.load("m", { path, revision: "r1" }),
    repository.unload("m", 100),
    repository.load("m", { path, revision: "r1" }),
    repository.unload("m", 100),
  ]);
  assert.equal(repository.count, 0);
  assert.equal(repository.usedBytes, 0);
});

test("loads at the same time leave turns of the event loop between them", async () => {
  await using repository = new Repository();
  const path = await write("forest.onnx", forestGraph(20, 6));
  let turns = 0;
  let running = true;
  const count = (): void => {
    turns += 1;
    if (running) setImmediate(count);
  };
  count();
  await Promise.all(Array.from({ length: 20 }, (_, at) => repository.load(`m${at}`, { path, revision: "r" })));
  running = false;
  assert.ok(turns >= 20, `${turns} turns for 20 loads`);
});

const unsupported: readonly [string, () => Uint8Array | string, string, RegExp][] = [
  ["text", () => "this is not a model", "model", /[Pp]rotobuf/],
  ["an empty file", () => "", "model", /./],
  ["zeros", () => new Uint8Array(1_000), "model", /./],
  ["a truncated model", () => forestGraph(2, 2).subarray(0, 300), "model", /./],
  ["an unknown operator", () => graph("NoSuchThing"), "model", /NoSuchThing/],
  ["an input called __proto__", () => graph("Identity", "__proto__"), "model", /__proto__/],
  ["a cycle of values", () => graph("Identity", "x", "y"), "model", /./],
];

function graph(operator: string, input = "x", from = input): Uint8Array {
  return buildGraph({
    inputs: [{ name: input, datatype: "FP32", shape: ["n"] }],
    outputs: [{ name: "y", datatype: "FP32", shape: ["n"] }],
    nodes: [buildNode(operator, [from], ["y"])],
  });
}

for (const [name, model, kind, message] of unsupported) {
  test(`refuses to load ${name}`, async () => {
    await using repository = new Repository();
    const failed = await repository.load("m", { path: await write("u.onnx", model()), revision: "r" });
    assert.ok("kind" in failed);
    assert.equal(failed.kind, kind);
    assert.match(failed.message, message);
    assert.equal(repository.count, 0);
  });
}

test("a missing file is a failure of storage, a folder one of the model", async () => {
  await using repository = new Repository();
  for (const [path, kind] of [
    [join(folder, "nope.onnx"), "storage"],
    [folder, "model"],
  ] as const) {
    const failed = await repository.load("m", { path, revision: "r" });
    assert.equal("kind" in failed && failed.kind, kind);
  }
});
