// Real threads with real models: what a session in a thread does, and what waits for it.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { TensorProtoSchema } from "#proto/gen/onnx/onnx_pb.ts";
import { type DatatypeInfo, datatypes, type Elements } from "../datatypes.ts";
import { Refusal } from "../refusal.ts";
import type { NamedTensor, Session, WhenGone } from "../session.ts";
import { buildGraph, buildNode, forestGraph, identityGraph, loopGraph, onnxTypes } from "../testing/graphs.ts";
import { ThreadPool } from "./pool.ts";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "warm-onnx-"));
});
after(async () => rm(folder, { recursive: true, force: true }));

/** Long enough that whatever the tests do meanwhile is done before it ends, by orders of magnitude. */
const longTimes = 400_000;

async function open(pool: ThreadPool, model: Uint8Array | string, ran?: (cpuMs: number) => void): Promise<Session> {
  const path = join(folder, "m.onnx");
  await writeFile(path, model);
  const session = await pool.open(path, ran);
  if ("kind" in session) throw new Error(session.message);
  return session;
}

function typeOf(name: string): DatatypeInfo {
  const datatype = datatypes.find((info) => info.name === name);
  assert.ok(datatype);
  return datatype;
}

async function loop(session: Session, times: number, whenGone?: WhenGone): Promise<readonly NamedTensor[] | Refusal> {
  const inputs: NamedTensor[] = [
    { name: "times", datatype: typeOf("INT64"), shape: [], elements: BigInt64Array.of(BigInt(times)) },
    { name: "x", datatype: typeOf("FP32"), shape: [1, 64], elements: new Float32Array(64).fill(1) },
  ];
  return await session.run(inputs, ["y"], whenGone);
}

const elementsOf: Readonly<Record<DatatypeInfo["name"], Elements>> = {
  BOOL: Uint8Array.of(0, 1, 1),
  UINT8: Uint8Array.of(0, 1, 255),
  INT8: Int8Array.of(-128, 0, 127),
  UINT16: Uint16Array.of(0, 1, 65_535),
  INT16: Int16Array.of(-32_768, 0, 32_767),
  UINT32: Uint32Array.of(0, 1, 2 ** 32 - 1),
  INT32: Int32Array.of(-(2 ** 31), 0, 1),
  UINT64: BigUint64Array.of(0n, 1n, 2n ** 64n - 1n),
  INT64: BigInt64Array.of(-(2n ** 63n), 0n, 1n),
  FP16: Float16Array.of(1.5, -2, 65_504),
  FP32: Float32Array.of(1.5, -0, Number.NaN),
  FP64: Float64Array.of(1.5, -2, Infinity),
  BYTES: ["", "a", "ü€😀"],
};

test("tensors of every datatype come back as they went", async () => {
  await using pool = new ThreadPool({ threads: 1, maxWaiting: 10 });
  for (const datatype of datatypes) {
    const elements = elementsOf[datatype.name];
    const expected = elements.slice();
    const session = await open(pool, identityGraph(datatype.name, [3]));
    assert.deepEqual(session.inputs, [{ name: "x", datatype, shape: [3] }]);
    assert.equal(session.outputs[0]?.datatype, datatype);
    const outputs = await session.run([{ name: "x", datatype, shape: [3], elements }], ["y"]);
    assert.deepEqual(outputs, [{ name: "y", datatype, shape: [3], elements: expected }]);
    await session.release();
  }
});

test("an output that is one of the model's weights, or is asked for as two, is the client's own", async () => {
  await using pool = new ThreadPool({ threads: 1, maxWaiting: 10 });
  const weights = create(TensorProtoSchema, {
    name: "y",
    dims: [2n],
    dataType: onnxTypes.FP32,
    rawData: new Uint8Array(Float32Array.of(3, 4).buffer),
  });
  const session = await open(
    pool,
    buildGraph({
      inputs: [{ name: "x", datatype: "FP32", shape: ["n"] }],
      outputs: ["y", "z", "w"].map((name) => ({ name, datatype: "FP32", shape: ["m"] }) as const),
      nodes: [buildNode("Identity", ["x"], ["z"]), buildNode("Identity", ["x"], ["w"])],
      initializers: [weights],
    }),
  );
  for (let i = 0; i < 3; i++) {
    const elements = Float32Array.of(i);
    const outputs = await session.run([{ name: "x", datatype: typeOf("FP32"), shape: [1], elements }], ["y", "z", "w"]);
    assert.ok(!(outputs instanceof Refusal));
    assert.deepEqual(
      outputs.map(({ elements: given }) => given),
      [Float32Array.of(3, 4), Float32Array.of(i), Float32Array.of(i)],
    );
  }
});

test("failures of loads and of runs are told as in the main thread", async () => {
  await using pool = new ThreadPool({ threads: 1, maxWaiting: 10 });
  const path = join(folder, "bad.onnx");
  await writeFile(path, "no model");
  const failed = await pool.open(path);
  assert.equal("kind" in failed && failed.kind, "model");
  const absent = await pool.open(join(folder, "absent.onnx"));
  assert.equal("kind" in absent && absent.kind, "storage");
  const session = await open(pool, identityGraph("FP32", [3]));
  const elements = new Float32Array(2);
  const refused = await session.run([{ name: "x", datatype: typeOf("FP32"), shape: [2], elements }], ["y"]);
  assert.equal(refused instanceof Refusal && refused.kind, "bad-request");
});

test("a model in another thread is answered while one computes, and is loaded while it does", async () => {
  await using pool = new ThreadPool({ threads: 2, maxWaiting: 10 });
  const events: string[] = [];
  let cpuMs = 0;
  const slow = await open(pool, loopGraph(), (ms) => (cpuMs = ms));
  const running = loop(slow, longTimes).then(() => events.push("slow"));
  const other = await open(pool, forestGraph(50, 6));
  for (let i = 0; i < 20; i++) {
    const elements = new Float32Array(16);
    assert.ok(
      !((await other.run([{ name: "x", datatype: typeOf("FP32"), shape: [1, 16], elements }], ["y"])) instanceof Refusal),
    );
    events.push("quick");
  }
  await running;
  assert.deepEqual(events, [...Array<string>(20).fill("quick"), "slow"]);
  assert.ok(cpuMs > 20, `${cpuMs} ms of processor time`);
});

test("models of one thread take turns, whoever asked first and most", async () => {
  await using pool = new ThreadPool({ threads: 1, maxWaiting: 10 });
  const [slow, other] = [await open(pool, loopGraph()), await open(pool, loopGraph())];
  const events: string[] = [];
  const first = Array.from({ length: 4 }, (_, at) => loop(slow, 2_000).then(() => events.push(`slow ${at}`)));
  const second = loop(other, 1).then(() => events.push("other"));
  await Promise.all([...first, second]);
  assert.deepEqual(events, ["slow 0", "slow 1", "other", "slow 2", "slow 3"]);
});

test("as many requests wait for a model as may; one whose client leaves makes room and is not begun", async () => {
  await using pool = new ThreadPool({ threads: 1, maxWaiting: 2 });
  let runs = 0;
  const slow = await open(pool, loopGraph(), () => (runs += 1));
  const other = await open(pool, loopGraph());
  const events: string[] = [];
  const leaves: (() => void)[] = [];
  const first = loop(slow, longTimes).then(() => events.push("first"));
  const ask = async (): Promise<string> => {
    const outcome = await loop(slow, 1, (leave) => leaves.push(leave));
    return outcome instanceof Refusal ? outcome.kind : "answered";
  };
  const [left, kept] = [ask(), ask()];
  assert.equal(await ask(), "busy");
  const others = loop(other, 1);
  leaves[0]?.();
  assert.equal(await left, "gone");
  events.push("left");
  const late = ask();
  leaves[0]?.();
  assert.equal(await kept, "answered");
  assert.equal(await late, "answered");
  assert.ok(!((await others) instanceof Refusal));
  await first;
  for (const leave of leaves) leave();
  assert.deepEqual(events, ["left", "first"]);
  assert.equal(runs, 3);
});

test("a model goes where nothing computes", async () => {
  await using pool = new ThreadPool({ threads: 2, maxWaiting: 10 });
  const slow = await open(pool, loopGraph());
  const second = await open(pool, loopGraph());
  await second.release();
  const events: string[] = [];
  const running = loop(slow, longTimes).then(() => events.push("slow"));
  // Both threads hold as many models once the first of these is there; the one that computes is left alone by all.
  for (let i = 0; i < 3; i++) {
    await loop(await open(pool, loopGraph()), 1);
    events.push("quick");
  }
  await running;
  assert.deepEqual(events, ["quick", "quick", "quick", "slow"]);
});

test("an end while a model computes lets it end, and gives up what waits", async () => {
  const pool = new ThreadPool({ threads: 1, maxWaiting: 10 });
  const slow = await open(pool, loopGraph());
  const running = loop(slow, longTimes / 4);
  const waiting = loop(slow, 1);
  assert.ok(pool.isComputing);
  const ended = pool[Symbol.asyncDispose]();
  const given = await waiting;
  assert.equal(given instanceof Refusal && given.kind, "gone");
  assert.ok(!((await running) instanceof Refusal));
  await ended;
  assert.ok(!pool.isComputing);
  const late = await loop(slow, 1);
  assert.equal(late instanceof Refusal && late.kind, "gone");
  await slow.release();
});
