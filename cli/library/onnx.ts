// Owns writing a model's parameters as an ONNX file. Input `x` FP32 [-1, features]; outputs `label` INT64 [-1] and
// `scores` FP32 [-1, classes] of a classifier, `prediction` FP32 [-1, 1] of a regression.
// Scores are raw: of a discriminant, log probabilities up to a constant per row; of a network, least-squares estimates of
// the class's indicator. The format: https://github.com/onnx/onnx/blob/main/docs/IR.md
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType,
  ModelProtoSchema,
  type NodeProtoSchema,
  TensorProto_DataType,
  type TensorProtoSchema,
  type ValueInfoProtoSchema,
} from "#proto/gen/onnx/onnx_pb.ts";
import { hiddenLayerOf } from "./predict.ts";
import type { LinearRecipe, NetworkRecipe, Recipe } from "./recipes.ts";

const irVersion = 8n;
const operatorSet = 17n;

type Node = MessageInitShape<typeof NodeProtoSchema>;
type Weights = MessageInitShape<typeof TensorProtoSchema>;
type Value = MessageInitShape<typeof ValueInfoProtoSchema>;

interface Steps {
  readonly nodes: readonly Node[];
  readonly weights: readonly Weights[];
}

export function buildOnnx(name: string, recipe: Recipe, parameters: Float32Array<ArrayBuffer>): Uint8Array {
  const classifies = recipe.kind !== "regression";
  const scores = classifies ? "scores" : "prediction";
  const { nodes, weights } =
    recipe.kind === "network" ? networkSteps(recipe, parameters, scores) : linearSteps(recipe, parameters, scores);
  const { FLOAT, INT64 } = TensorProto_DataType;
  const model = create(ModelProtoSchema, {
    irVersion,
    producerName: "warmpath",
    opsetImport: [{ domain: "", version: operatorSet }],
    graph: {
      name,
      node: classifies ? [...nodes, argMax(scores, "label")] : [...nodes],
      initializer: [...weights],
      input: [buildValue("x", FLOAT, [recipe.featureCount])],
      output: [...(classifies ? [buildValue("label", INT64, [])] : []), buildValue(scores, FLOAT, [recipe.outputCount])],
    },
  });
  return toBinary(ModelProtoSchema, model);
}

function linearSteps(recipe: LinearRecipe, parameters: Float32Array<ArrayBuffer>, output: string): Steps {
  const { featureCount, outputCount } = recipe;
  const take = createTaker(parameters);
  return {
    weights: [
      take("mean", [featureCount]),
      take("scale", [featureCount]),
      take("weights", [featureCount, outputCount]),
      take("bias", [outputCount]),
    ],
    nodes: [
      { opType: "Sub", input: ["x", "mean"], output: ["centred"] },
      { opType: "Div", input: ["centred", "scale"], output: ["z"] },
      { opType: "Gemm", input: ["z", "weights", "bias"], output: [output] },
    ],
  };
}

function networkSteps(recipe: NetworkRecipe, parameters: Float32Array<ArrayBuffer>, output: string): Steps {
  const { featureCount, hiddenCount, outputCount } = recipe;
  const take = createTaker(parameters);
  const hidden = hiddenLayerOf(recipe);
  return {
    weights: [
      buildWeights("hidden_weights", [featureCount, hiddenCount], hidden.weights),
      buildWeights("hidden_bias", [hiddenCount], hidden.bias),
      take("weights", [featureCount + hiddenCount, outputCount]),
      take("bias", [outputCount]),
    ],
    nodes: [
      { opType: "Gemm", input: ["x", "hidden_weights", "hidden_bias"], output: ["sums"] },
      { opType: "Relu", input: ["sums"], output: ["hidden"] },
      { opType: "Concat", input: ["x", "hidden"], output: ["joined"], attribute: [integer("axis", 1)] },
      { opType: "Gemm", input: ["joined", "weights", "bias"], output: [output] },
    ],
  };
}

function argMax(input: string, output: string): Node {
  return { opType: "ArgMax", input: [input], output: [output], attribute: [integer("axis", 1), integer("keepdims", 0)] };
}

/** Takes weights from the front of the parameters, one after the other. */
function createTaker(parameters: Float32Array<ArrayBuffer>): (name: string, shape: readonly number[]) => Weights {
  let from = 0;
  return (name, shape) => {
    const part = parameters.subarray(from, from + shape.reduce((a, b) => a * b, 1));
    from += part.length;
    return buildWeights(name, shape, part);
  };
}

/** The raw bytes of FP32 are little-endian in ONNX, as on the machines that this runs on (x86-64, arm64). */
function buildWeights(name: string, shape: readonly number[], values: Float32Array<ArrayBuffer>): Weights {
  return {
    name,
    dims: shape.map(BigInt),
    dataType: TensorProto_DataType.FLOAT,
    rawData: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  };
}

function integer(name: string, value: number): NonNullable<Node["attribute"]>[number] {
  return { name, type: AttributeProto_AttributeType.INT, i: BigInt(value) };
}

/** Rows of any number, then the shape of one row. */
function buildValue(name: string, elemType: number, rowShape: readonly number[]): Value {
  const dim = [
    { value: { case: "dimParam" as const, value: "rows" } },
    ...rowShape.map((size) => ({ value: { case: "dimValue" as const, value: BigInt(size) } })),
  ];
  return { name, type: { value: { case: "tensorType", value: { elemType, shape: { dim } } } } };
}
