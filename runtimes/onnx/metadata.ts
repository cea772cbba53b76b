// Owns what the server tells of itself and of its models, for both protocols.
import type { Lease } from "./repository.ts";

export const serverDescription = {
  name: "warmpath-onnx",
  version: "0.1.0",
  extensions: ["binary_tensor_data"],
} as const;

export interface TensorDescription {
  readonly name: string;
  readonly datatype: string;
  /** -1 stands for a dimension of any size; empty also for an unknown rank. */
  readonly shape: readonly number[];
}

export interface ModelDescription {
  readonly name: string;
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly TensorDescription[];
  readonly outputs: readonly TensorDescription[];
}

export function describeModel({ publicName, version, session }: Lease): ModelDescription {
  const describe = ({ name, datatype, shape }: (typeof session.inputs)[number]): TensorDescription => ({
    name,
    datatype: datatype.name,
    shape,
  });
  return {
    name: publicName,
    versions: [version],
    platform: "onnxruntime_onnx",
    inputs: session.inputs.map(describe),
    outputs: session.outputs.map(describe),
  };
}
