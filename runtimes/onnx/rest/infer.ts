// Owns the V2 inference request and answer as HTTP bodies: JSON, with the binary tensor extension.
// https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
//
//   body: [ JSON, Inference-Header-Content-Length bytes ][ raw bytes of input 1 ][ of input 2 ] ...
//
// Keys that this server does not know are ignored; those whose neglect would change the answer are refused.
import { isUtf8 } from "node:buffer";
import type { GivenInput } from "../inference.ts";
import { buildJsonArray, parseJson, parseJsonElements } from "../jsondata.ts";
import { buildRawBytes, parseRawElements } from "../rawdata.ts";
import { badRequest, quote, Refusal } from "../refusal.ts";
import type { NamedTensor } from "../session.ts";

export interface InferRequest {
  readonly id: string | undefined;
  readonly inputs: readonly GivenInput[];
  /** Undefined for all outputs. */
  readonly outputNames: readonly string[] | undefined;
  /** Whether this output is to be sent as raw bytes. */
  readonly isBinary: (outputName: string) => boolean;
}

export interface InferAnswer {
  readonly body: string | Buffer;
  /** Set when raw bytes follow the JSON. */
  readonly jsonBytes?: number;
}

type Json = Readonly<Record<string, unknown>>;

export function parseInferRequest(body: Buffer, headerLength: string | undefined): InferRequest | Refusal {
  const jsonBytes = headerLength === undefined ? body.length : parseHeaderLength(headerLength, body.length);
  if (jsonBytes instanceof Refusal) return jsonBytes;
  const request = parseJsonObject(body.subarray(0, jsonBytes));
  if (request instanceof Refusal) return request;
  const { id, inputs, outputs = [] } = request;
  if (id !== undefined && typeof id !== "string") return badRequest("id must be a string");
  const parameters = parseParameters(request, "the request");
  if (parameters instanceof Refusal) return parameters;
  if (!Array.isArray(inputs)) return badRequest("inputs must be an array of tensors");
  const tensors = parseInputs(inputs, body.subarray(jsonBytes));
  if (tensors instanceof Refusal) return tensors;
  if (!Array.isArray(outputs)) return badRequest("outputs must be an array");
  const binary = new Map<string, unknown>();
  for (const output of outputs) {
    const wanted = parseOutput(output);
    if (wanted instanceof Refusal) return wanted;
    if (binary.has(wanted.name)) return badRequest(`output ${quote(wanted.name)} is asked for twice`);
    binary.set(wanted.name, wanted.parameters["binary_data"]);
  }
  const byDefault = parameters["binary_data_output"] === true;
  return {
    id,
    inputs: tensors,
    outputNames: outputs.length === 0 ? undefined : [...binary.keys()],
    isBinary: (name) => (typeof binary.get(name) === "boolean" ? binary.get(name) === true : byDefault),
  };
}

/** A JSON object, with 64-bit integers whole. */
export function parseJsonObject(bytes: Buffer): Json | Refusal {
  if (!isUtf8(bytes)) return badRequest("the body is not UTF-8");
  const parsed = parseJson(bytes.toString("utf8"));
  if (parsed === undefined) return badRequest("the body is not JSON");
  return isObject(parsed.value) ? parsed.value : badRequest("the body must be a JSON object");
}

export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseHeaderLength(text: string, bodyBytes: number): number | Refusal {
  const length = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (length <= bodyBytes) return length;
  return badRequest(
    `Inference-Header-Content-Length must be a number of bytes up to the body's ${bodyBytes}, not ${quote(text)}`,
  );
}

function parseParameters(owner: Json, what: string): Json | Refusal {
  const { parameters } = owner;
  if (parameters === undefined || parameters === null) return {};
  return isObject(parameters) ? parameters : badRequest(`the parameters of ${what} must be an object`);
}

function parseInputs(inputs: readonly unknown[], raw: Buffer): readonly GivenInput[] | Refusal {
  const tensors: GivenInput[] = [];
  let at = 0;
  for (const input of inputs) {
    if (!isObject(input)) return badRequest("each input must be an object");
    const { name, datatype, shape, data } = input;
    if (typeof name !== "string") return badRequest("each input must have a name");
    const what = `input ${quote(name)}`;
    if (typeof datatype !== "string") return badRequest(`${what} must have a datatype`);
    if (!isShape(shape)) return badRequest(`${what} must have a shape, an array of whole numbers`);
    const parameters = parseParameters(input, what);
    if (parameters instanceof Refusal) return parameters;
    if (parameters["shared_memory_region"] !== undefined) return badRequest("shared memory is not supported");
    const size = parameters["binary_data_size"];
    if (size === undefined) {
      if (data === undefined) return badRequest(`${what} has no data`);
      tensors.push({ name, datatype, shape, parse: (info, count, told) => parseJsonElements(info, shape, count, data, told) });
      continue;
    }
    if (data !== undefined) return badRequest(`${what} has both data and binary_data_size`);
    if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0 || at + size > raw.length) {
      return badRequest(`the binary_data_size of ${what} is not within the ${raw.length} bytes after the JSON`);
    }
    const bytes = raw.subarray(at, at + size);
    at += size;
    tensors.push({ name, datatype, shape, parse: (info, count, told) => parseRawElements(info, count, bytes, told) });
  }
  if (at !== raw.length) return badRequest(`${raw.length - at} bytes after the JSON belong to no input`);
  return tensors;
}

function isShape(shape: unknown): shape is readonly number[] {
  return Array.isArray(shape) && shape.every((dim) => typeof dim === "number");
}

function parseOutput(output: unknown): { readonly name: string; readonly parameters: Json } | Refusal {
  const name = isObject(output) ? output["name"] : undefined;
  if (!isObject(output) || typeof name !== "string") return badRequest("each output asked for must be an object with a name");
  const parameters = parseParameters(output, `output ${quote(name)}`);
  if (parameters instanceof Refusal) return parameters;
  if (parameters["shared_memory_region"] !== undefined) return badRequest("shared memory is not supported");
  if (parameters["classification"] !== undefined) return badRequest("the classification extension is not supported");
  return { name, parameters };
}

export function buildInferAnswer(
  model: { readonly publicName: string; readonly version: string },
  request: InferRequest,
  outputs: readonly NamedTensor[],
): InferAnswer {
  const raw: Uint8Array[] = [];
  const tensors = outputs.map(({ name, datatype, shape, elements }) => {
    const head = `{"name":${JSON.stringify(name)},"datatype":"${datatype.name}","shape":[${shape.join(",")}]`;
    if (!request.isBinary(name)) return `${head},"data":${buildJsonArray(datatype, elements)}}`;
    const bytes = buildRawBytes(elements);
    raw.push(bytes);
    return `${head},"parameters":{"binary_data_size":${bytes.byteLength}}}`;
  });
  const id = request.id === undefined ? "" : `"id":${JSON.stringify(request.id)},`;
  const json = `{"model_name":${JSON.stringify(model.publicName)},"model_version":${JSON.stringify(model.version)},${id}"outputs":[${tensors.join(",")}]}`;
  if (raw.length === 0) return { body: json };
  const head = Buffer.from(json);
  return { body: Buffer.concat([head, ...raw]), jsonBytes: head.length };
}
