// Owns the V1 protocol's predict: {"instances": [...]} -> {"predictions": [...]}.
//
// An instance is one row. For a model with one input it is the row's value, nested as the input's shape without its first
// dimension; for a model with several inputs it is an object {"input name": value}, and the values of one input over all
// instances are stacked. A model with one input takes such objects too. A prediction is the row's value of the only output,
// or an object {"output name": value} when the model has several.
import type { Elements } from "../datatypes.ts";
import type { GivenInput } from "../inference.ts";
import { buildNestedJson, parseJsonElements } from "../jsondata.ts";
import { badRequest, quote, Refusal } from "../refusal.ts";
import type { NamedTensor, Port, Session } from "../session.ts";
import { isObject, parseJsonObject } from "./infer.ts";

export interface PredictRequest {
  readonly rows: number;
  readonly inputs: readonly GivenInput[];
}

export function parsePredictRequest(body: Buffer, session: Session): PredictRequest | Refusal {
  const request = parseJsonObject(body);
  if (request instanceof Refusal) return request;
  const { instances } = request;
  if (!Array.isArray(instances)) return badRequest("instances must be an array");
  if (instances.length === 0) return badRequest("instances must not be empty");
  const [first] = session.inputs;
  const named = isObject(instances[0]);
  if (!named && (first === undefined || session.inputs.length > 1)) {
    return badRequest(`each instance must be an object with a value for each input of the model`);
  }
  if (!named && first !== undefined) return { rows: instances.length, inputs: [buildInput(first, instances)] };
  const inputs: GivenInput[] = [];
  for (const port of session.inputs) {
    const values = instances.map((instance: unknown) =>
      isObject(instance) && Object.hasOwn(instance, port.name) ? instance[port.name] : undefined,
    );
    if (values.includes(undefined)) return badRequest(`an instance has no value for input ${quote(port.name)}`);
    inputs.push(buildInput(port, values));
  }
  const known = new Set(session.inputs.map((port) => port.name));
  const unknown = instances
    .flatMap((instance: unknown) => (isObject(instance) ? Object.keys(instance) : []))
    .find((key) => !known.has(key));
  if (unknown !== undefined) return badRequest(`there is no input ${quote(unknown)}`);
  return { rows: instances.length, inputs };
}

function buildInput(port: Port, values: readonly unknown[]): GivenInput {
  const shape: number[] = [];
  for (let level: unknown = values; Array.isArray(level) && shape.length <= 32; level = level[0]) shape.push(level.length);
  return {
    name: port.name,
    datatype: port.datatype.name,
    shape,
    parse: (info, count, what) => parseJsonElements(info, shape, count, values, what),
  };
}

export function buildPredictions(rows: number, outputs: readonly NamedTensor[]): string | Refusal {
  const whole = outputs.find((output) => output.shape[0] !== rows);
  if (whole !== undefined) {
    return badRequest(`output ${quote(whole.name)} has no row for each instance, so this model is for the V2 protocol only`);
  }
  const [only] = outputs;
  if (only !== undefined && outputs.length === 1) {
    return `{"predictions":${buildNestedJson(only.datatype, only.elements, only.shape)}}`;
  }
  const predictions = Array.from({ length: rows }, (_, row) => {
    const values = outputs.map((output) => `${JSON.stringify(output.name)}:${buildRow(output, row, rows)}`);
    return `{${values.join(",")}}`;
  });
  return `{"predictions":[${predictions.join(",")}]}`;
}

function buildRow({ datatype, elements, shape }: NamedTensor, row: number, rows: number): string {
  const width = elements.length / rows;
  const part: Elements = elements.slice(row * width, (row + 1) * width);
  return buildNestedJson(datatype, part, shape.slice(1));
}
