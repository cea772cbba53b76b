// Owns small real ONNX graphs for tests and measurements, built from the format's own messages.
// Not for serving: nothing outside tests and benches imports it.
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type TypeProto,
  TypeProtoSchema,
} from "#proto/gen/onnx/onnx_pb.ts";

/** ONNX element types by their V2 datatype. */
export const onnxTypes = {
  FP32: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  BYTES: 8,
  BOOL: 9,
  FP16: 10,
  FP64: 11,
  UINT32: 12,
  UINT64: 13,
} as const;

export type GraphDatatype = keyof typeof onnxTypes;

export interface GraphValue {
  readonly name: string;
  readonly datatype: GraphDatatype;
  /** A string is a named dimension of any size; no shape at all leaves the rank unknown. */
  readonly shape?: readonly (number | string)[];
}

export interface GraphOptions {
  readonly inputs: readonly GraphValue[];
  readonly outputs: readonly GraphValue[];
  readonly nodes: readonly NodeProto[];
  readonly initializers?: readonly TensorProto[];
  /** Operator sets besides the default one. */
  readonly domains?: Readonly<Record<string, number>>;
}

export function buildGraph(options: GraphOptions): Uint8Array {
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [
      { domain: "", version: 17n },
      ...Object.entries(options.domains ?? {}).map(([domain, version]) => ({ domain, version: BigInt(version) })),
    ],
    graph: buildBody(options),
  });
  return toBinary(ModelProtoSchema, model);
}

function buildBody({ inputs, outputs, nodes, initializers = [] }: GraphOptions): GraphProto {
  const value = (v: GraphValue): { name: string; type: TypeProto } => ({ name: v.name, type: buildType(v) });
  return create(GraphProtoSchema, {
    name: "g",
    node: [...nodes],
    initializer: [...initializers],
    input: inputs.map(value),
    output: outputs.map(value),
  });
}

function buildType(v: GraphValue): TypeProto {
  const dim = v.shape?.map((d) =>
    typeof d === "number"
      ? ({ value: { case: "dimValue", value: BigInt(d) } } as const)
      : ({ value: { case: "dimParam", value: d } } as const),
  );
  return create(TypeProtoSchema, {
    value: {
      case: "tensorType",
      value: { elemType: onnxTypes[v.datatype], ...(dim === undefined ? {} : { shape: { dim } }) },
    },
  });
}

export function buildNode(
  opType: string,
  input: readonly string[],
  output: readonly string[],
  attribute: readonly AttributeProto[] = [],
  domain = "",
): NodeProto {
  return create(NodeProtoSchema, { opType, input: [...input], output: [...output], attribute: [...attribute], domain });
}

export function buildWeights(name: string, dims: readonly number[], seed = 1): TensorProto {
  const count = dims.reduce((a, b) => a * b, 1);
  const values = new Float32Array(count);
  let state = seed;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7f_ff_ff_ff;
    values[i] = (state / 0x7f_ff_ff_ff - 0.5) / Math.sqrt(count);
  }
  return create(TensorProtoSchema, {
    name,
    dims: dims.map(BigInt),
    dataType: onnxTypes.FP32,
    rawData: new Uint8Array(values.buffer),
  });
}

export const attribute = {
  ints: (name: string, values: readonly number[]): AttributeProto =>
    create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INTS, ints: values.map(BigInt) }),
  floats: (name: string, values: readonly number[]): AttributeProto =>
    create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.FLOATS, floats: [...values] }),
  strings: (name: string, values: readonly string[]): AttributeProto =>
    create(AttributeProtoSchema, {
      name,
      type: AttributeProto_AttributeType.STRINGS,
      strings: values.map((v) => new TextEncoder().encode(v)),
    }),
  int: (name: string, value: number): AttributeProto =>
    create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INT, i: BigInt(value) }),
  string: (name: string, value: string): AttributeProto =>
    create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.STRING, s: new TextEncoder().encode(value) }),
  graph: (name: string, value: GraphOptions): AttributeProto =>
    create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.GRAPH, g: buildBody(value) }),
};

/** y = x, for any datatype and any number of rows. */
export function identityGraph(datatype: GraphDatatype, shape: readonly (number | string)[] = ["n"]): Uint8Array {
  return buildGraph({
    inputs: [{ name: "x", datatype, shape }],
    outputs: [{ name: "y", datatype, shape }],
    nodes: [buildNode("Identity", ["x"], ["y"])],
  });
}

/** sum = a + b and difference = a - b over [1, 16] int32: the classic two-in, two-out example. */
export function addSubGraph(): Uint8Array {
  const shape = [1, 16];
  return buildGraph({
    inputs: ["a", "b"].map((name) => ({ name, datatype: "INT32", shape }) as const),
    outputs: ["sum", "difference"].map((name) => ({ name, datatype: "INT32", shape }) as const),
    nodes: [buildNode("Add", ["a", "b"], ["sum"]), buildNode("Sub", ["a", "b"], ["difference"])],
  });
}

/** y = x + addend over [n, 2] float32: tells one model from another by its answer. */
export function addConstantGraph(addend: number): Uint8Array {
  return buildGraph({
    inputs: [{ name: "x", datatype: "FP32", shape: ["n", 2] }],
    outputs: [{ name: "y", datatype: "FP32", shape: ["n", 2] }],
    nodes: [buildNode("Add", ["x", "c"], ["y"])],
    initializers: [
      create(TensorProtoSchema, {
        name: "c",
        dims: [1n],
        dataType: onnxTypes.FP32,
        rawData: new Uint8Array(Float32Array.of(addend).buffer),
      }),
    ],
  });
}

/** A multi-layer perceptron of the given widths: Gemm and Relu over [n, widths[0]] float32. */
export function perceptronGraph(widths: readonly number[], seed = 1): Uint8Array {
  const nodes: NodeProto[] = [];
  const initializers: TensorProto[] = [];
  let value = "x";
  for (let i = 1; i < widths.length; i++) {
    const [from, to] = [widths[i - 1] ?? 1, widths[i] ?? 1];
    initializers.push(buildWeights(`w${i}`, [from, to], seed + i), buildWeights(`b${i}`, [to], seed + i));
    nodes.push(buildNode("Gemm", [value, `w${i}`, `b${i}`], [i === widths.length - 1 ? "y" : `h${i}`]));
    value = `h${i}`;
    if (i < widths.length - 1) {
      nodes.push(buildNode("Relu", [value], [`r${i}`]));
      value = `r${i}`;
    }
  }
  return buildGraph({
    inputs: [{ name: "x", datatype: "FP32", shape: ["n", widths[0] ?? 1] }],
    outputs: [{ name: "y", datatype: "FP32", shape: ["n", widths.at(-1) ?? 1] }],
    nodes,
    initializers,
  });
}

/** A regression forest of complete binary trees, as converters write it (ai.onnx.ml TreeEnsembleRegressor). */
export function forestGraph(trees: number, depth: number, features = 16): Uint8Array {
  const nodes = {
    tree: [] as number[],
    id: [] as number[],
    feature: [] as number[],
    value: [] as number[],
    yes: [] as number[],
    no: [] as number[],
  };
  const modes: string[] = [];
  const target = { tree: [] as number[], node: [] as number[], id: [] as number[], weight: [] as number[] };
  const inner = 2 ** depth - 1;
  for (let tree = 0; tree < trees; tree++) {
    for (let id = 0; id < 2 * inner + 1; id++) {
      const leaf = id >= inner;
      nodes.tree.push(tree);
      nodes.id.push(id);
      nodes.feature.push(leaf ? 0 : (id * 7 + tree) % features);
      nodes.value.push(leaf ? 0 : Math.fround(((id * 31 + tree * 17) % 100) / 100));
      nodes.yes.push(leaf ? 0 : 2 * id + 1);
      nodes.no.push(leaf ? 0 : 2 * id + 2);
      modes.push(leaf ? "LEAF" : "BRANCH_LEQ");
      if (!leaf) continue;
      target.tree.push(tree);
      target.node.push(id);
      target.id.push(0);
      target.weight.push(Math.fround(id / 1000));
    }
  }
  return buildGraph({
    domains: { "ai.onnx.ml": 3 },
    inputs: [{ name: "x", datatype: "FP32", shape: ["n", features] }],
    outputs: [{ name: "y", datatype: "FP32", shape: ["n", 1] }],
    nodes: [
      buildNode(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        [
          attribute.int("n_targets", 1),
          attribute.ints("nodes_treeids", nodes.tree),
          attribute.ints("nodes_nodeids", nodes.id),
          attribute.ints("nodes_featureids", nodes.feature),
          attribute.floats("nodes_values", nodes.value),
          attribute.strings("nodes_modes", modes),
          attribute.ints("nodes_truenodeids", nodes.yes),
          attribute.ints("nodes_falsenodeids", nodes.no),
          attribute.ints("target_treeids", target.tree),
          attribute.ints("target_nodeids", target.node),
          attribute.ints("target_ids", target.id),
          attribute.floats("target_weights", target.weight),
        ],
        "ai.onnx.ml",
      ),
    ],
  });
}

/** y = x times a matrix, `times` (int64) times over: as slow as the request says. Some 5 us for each time at a width of 64. */
export function loopGraph(width = 64): Uint8Array {
  const row = { datatype: "FP32", shape: [1, width] } as const;
  const flag = { datatype: "BOOL", shape: [] } as const;
  return buildGraph({
    inputs: [
      { name: "times", datatype: "INT64", shape: [] },
      { name: "x", ...row },
    ],
    outputs: [{ name: "y", ...row }],
    initializers: [buildWeights("w", [width, width])],
    nodes: [
      buildNode(
        "Loop",
        ["times", "", "x"],
        ["y"],
        [
          attribute.graph("body", {
            inputs: [
              { name: "i", datatype: "INT64", shape: [] },
              { name: "on", ...flag },
              { name: "v", ...row },
            ],
            outputs: [
              { name: "more", ...flag },
              { name: "product", ...row },
            ],
            nodes: [buildNode("Identity", ["on"], ["more"]), buildNode("MatMul", ["v", "w"], ["product"])],
          }),
        ],
      ),
    ],
  });
}

/** y = x times itself, over [n, n] float32: no weights and few bytes, and as slow as n is large, to the third power. */
export function squareGraph(): Uint8Array {
  return buildGraph({
    inputs: [{ name: "x", datatype: "FP32", shape: ["n", "n"] }],
    outputs: [{ name: "y", datatype: "FP32", shape: ["n", "n"] }],
    nodes: [buildNode("MatMul", ["x", "x"], ["y"])],
  });
}
