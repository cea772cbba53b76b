import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { ModelProtoSchema, NodeProtoSchema, StringStringEntryProtoSchema, TensorProtoSchema } from "#proto/gen/onnx/onnx_pb.ts";
import { scanModelFile } from "./scan.ts";
import {
  addConstantGraph,
  addSubGraph,
  buildGraph,
  buildNode,
  forestGraph,
  loopGraph,
  perceptronGraph,
} from "./testing/graphs.ts";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "warm-onnx-"));
});
after(async () => rm(folder, { recursive: true, force: true }));

test("counts what a full parse counts", async () => {
  const models = [
    addSubGraph(),
    addConstantGraph(1),
    perceptronGraph([300, 300, 5]),
    forestGraph(4, 8),
    perceptronGraph(Array(3_000).fill(2)),
  ];
  for (const [at, bytes] of models.entries()) {
    const path = join(folder, `${at}.onnx`);
    await writeFile(path, bytes);
    const graph = fromBinary(ModelProtoSchema, bytes).graph;
    assert.ok(graph);
    const trees = graph.node.filter(({ opType }) => opType.startsWith("TreeEnsemble"));
    assert.deepEqual(await scanModelFile(path), {
      fileBytes: bytes.length,
      nodes: graph.node.length,
      weightBytes: graph.initializer.reduce((sum, tensor) => sum + toBinary(TensorProtoSchema, tensor).length, 0),
      treeBytes: trees.reduce((sum, node) => sum + toBinary(NodeProtoSchema, node).length, 0),
      steady: true,
      external: false,
    });
  }
});

test("tells operators whose time nobody can foretell, and weights that lie elsewhere", async () => {
  const path = join(folder, "facts.onnx");
  const told = async (bytes: Uint8Array): Promise<readonly [boolean, boolean]> => {
    await writeFile(path, bytes);
    const { steady, external } = await scanModelFile(path);
    return [steady, external];
  };
  const one = (operator: string, domain = ""): Uint8Array =>
    buildGraph({
      inputs: [{ name: "x", datatype: "FP32", shape: ["n"] }],
      outputs: [{ name: "y", datatype: "FP32", shape: ["n"] }],
      nodes: [buildNode("Relu", ["x"], ["z"]), buildNode(operator, ["z"], ["y"], [], domain)],
    });
  assert.deepEqual(await told(one("Sigmoid")), [true, false]);
  assert.deepEqual(await told(one("Scaler", "ai.onnx.ml")), [true, false]);
  for (const bytes of [one("Expand"), one("x".repeat(100)), one("Sigmoid", "of.the.model"), loopGraph()]) {
    assert.deepEqual(await told(bytes), [false, false]);
  }
  const elsewhere = fromBinary(ModelProtoSchema, addConstantGraph(1));
  const [weights] = elsewhere.graph?.initializer ?? [];
  assert.ok(weights);
  weights.rawData = new Uint8Array(0);
  weights.externalData = [create(StringStringEntryProtoSchema, { key: "location", value: "w.bin" })];
  assert.deepEqual(await told(toBinary(ModelProtoSchema, elsewhere)), [true, true]);
});

test("leaves turns of the event loop to others in a graph of many nodes", async () => {
  const path = join(folder, "nodes.onnx");
  await writeFile(path, perceptronGraph(Array(3_000).fill(2)));
  let turns = 0;
  const count = (): void => {
    turns += 1;
    next = setImmediate(count);
  };
  let next = setImmediate(count);
  const { nodes } = await scanModelFile(path);
  clearImmediate(next);
  assert.ok(turns > nodes / 100, `${turns} turns for ${nodes} nodes`);
});

test("takes any bytes without a fault", async () => {
  const path = join(folder, "random.onnx");
  const model = addSubGraph();
  const mutated = fc
    .tuple(fc.nat(model.length - 1), fc.nat(255), fc.nat(model.length))
    .map(([at, byte, length]) => model.with(at, byte).slice(0, length));
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 200 }), mutated), async (bytes) => {
      await writeFile(path, bytes);
      const facts = await scanModelFile(path);
      assert.equal(facts.fileBytes, bytes.length);
      assert.ok(facts.weightBytes <= bytes.length && facts.treeBytes <= bytes.length);
    }),
    { numRuns: 300 },
  );
});
