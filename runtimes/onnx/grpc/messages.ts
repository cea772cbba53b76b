// Owns the V2 inference request and answer as protobuf messages: typed contents, or raw contents, never both.
// An answer is raw when the request was, and when an output is FP16, for which there are no typed contents.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type InferTensorContents,
  InferTensorContentsSchema,
  type ModelInferRequest,
  type ModelInferRequest_InferInputTensor,
  type ModelInferResponse,
  ModelInferResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import type { DatatypeInfo, Elements } from "../datatypes.ts";
import type { GivenInput } from "../inference.ts";
import { buildRawBytes, parseRawElements, parseText } from "../rawdata.ts";
import { badRequest, quote, Refusal } from "../refusal.ts";
import type { NamedTensor } from "../session.ts";

export function parseInputs(request: ModelInferRequest): readonly GivenInput[] | Refusal {
  const { inputs, rawInputContents: raw } = request;
  if (raw.length > 0 && raw.length !== inputs.length) {
    return badRequest(`raw_input_contents has ${raw.length} entries for ${inputs.length} inputs`);
  }
  const given: GivenInput[] = [];
  for (const [at, input] of inputs.entries()) {
    const { name, datatype, contents } = input;
    const shape = input.shape.map(Number);
    const bytes = raw[at];
    if (bytes !== undefined && contents !== undefined && countOf(contents) > 0) {
      return badRequest(`input ${quote(name)} has both contents and raw_input_contents`);
    }
    if (input.parameters["shared_memory_region"] !== undefined) return badRequest("shared memory is not supported");
    given.push({
      name,
      datatype,
      shape,
      parse: (info, count, what) =>
        bytes === undefined ? parseContents(info, count, input, what) : parseRawElements(info, count, bytes, what),
    });
  }
  return given;
}

type Field = Exclude<keyof InferTensorContents, "$typeName" | "$unknown">;

/** Which field of the contents carries a datatype. */
const fields: Readonly<Record<DatatypeInfo["name"], Field | undefined>> = {
  BOOL: "boolContents",
  INT8: "intContents",
  INT16: "intContents",
  INT32: "intContents",
  INT64: "int64Contents",
  UINT8: "uintContents",
  UINT16: "uintContents",
  UINT32: "uintContents",
  UINT64: "uint64Contents",
  FP16: undefined,
  FP32: "fp32Contents",
  FP64: "fp64Contents",
  BYTES: "bytesContents",
};

const allFields = [...new Set(Object.values(fields).filter((field) => field !== undefined))];

function countOf(contents: InferTensorContents): number {
  return allFields.reduce((sum, field) => sum + contents[field].length, 0);
}

function parseContents(
  info: DatatypeInfo,
  count: number,
  { contents }: ModelInferRequest_InferInputTensor,
  what: string,
): Elements | Refusal {
  const field = fields[info.name];
  if (field === undefined) return badRequest(`${what} is ${info.name}, which goes into raw_input_contents only`);
  const given = contents === undefined ? 0 : countOf(contents);
  const values = contents?.[field] ?? [];
  if (given !== values.length) return badRequest(`the contents of ${what} are not those of ${info.name}`);
  if (values.length !== count) return badRequest(`${what} has ${values.length} elements, but its shape makes ${count}`);
  if (contents === undefined) return info.family === "bytes" ? [] : parseRawElements(info, 0, new Uint8Array(0), what);
  if (info.family === "bool") return Uint8Array.from(contents.boolContents, (value) => (value ? 1 : 0));
  if (info.family === "bytes") return parseTexts(contents.bytesContents, what);
  if (info.family !== "big") return parseNumbers(info, numbersOf(contents, info), what);
  const elements = info.create(count);
  elements.set(info.name === "INT64" ? contents.int64Contents : contents.uint64Contents);
  return elements;
}

function numbersOf(
  contents: InferTensorContents,
  info: Extract<DatatypeInfo, { family: "integer" | "float" }>,
): readonly number[] {
  if (info.name === "FP32") return contents.fp32Contents;
  if (info.name === "FP64") return contents.fp64Contents;
  return info.min < 0 ? contents.intContents : contents.uintContents;
}

function parseNumbers(
  info: Extract<DatatypeInfo, { family: "integer" | "float" }>,
  values: readonly number[],
  what: string,
): Elements | Refusal {
  const wrong = info.elementBytes < 4 ? values.find((value) => value < info.min || value > info.max) : undefined;
  if (wrong !== undefined) return badRequest(`${wrong} in ${what} is outside the range of ${info.name}`);
  const elements = info.create(values.length);
  elements.set(values);
  return elements;
}

function parseTexts(values: readonly Uint8Array[], what: string): readonly string[] | Refusal {
  const texts: string[] = [];
  for (const value of values) {
    const text = parseText(value, what);
    if (text instanceof Refusal) return text;
    texts.push(text);
  }
  return texts;
}

export function buildResponse(
  model: { readonly publicName: string; readonly version: string },
  request: ModelInferRequest,
  outputs: readonly NamedTensor[],
): ModelInferResponse {
  const raw = request.rawInputContents.length > 0 || outputs.some(({ datatype }) => datatype.name === "FP16");
  return create(ModelInferResponseSchema, {
    modelName: model.publicName,
    modelVersion: model.version,
    id: request.id,
    outputs: outputs.map((output) => ({
      name: output.name,
      datatype: output.datatype.name,
      shape: output.shape.map(BigInt),
      ...(raw ? {} : { contents: buildContents(output) }),
    })),
    rawOutputContents: raw ? outputs.map(({ elements }) => buildRawBytes(elements)) : [],
  });
}

function buildContents({ datatype, elements }: NamedTensor): MessageInitShape<typeof InferTensorContentsSchema> {
  if (!ArrayBuffer.isView(elements)) {
    const encoder = new TextEncoder();
    return { bytesContents: elements.map((text) => encoder.encode(text)) };
  }
  if (elements instanceof BigInt64Array) return { int64Contents: Array.from(elements) };
  if (elements instanceof BigUint64Array) return { uint64Contents: Array.from(elements) };
  if (datatype.family === "bool") return { boolContents: Array.from(elements, (value) => value !== 0) };
  const values = Array.from(elements);
  const field = fields[datatype.name];
  return field === undefined ? {} : { [field]: values };
}
