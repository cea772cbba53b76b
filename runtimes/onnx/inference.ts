// Owns one inference, whatever protocol it came by: which inputs a model takes, their shapes and datatypes, which outputs are
// wanted. Protocols hand in inputs whose elements are read only once name, datatype and shape are known to fit.
import { type DatatypeInfo, type Elements, findDatatype } from "./datatypes.ts";
import { badRequest, quote, Refusal } from "./refusal.ts";
import type { NamedTensor, Port, Session, WhenGone } from "./session.ts";

export interface GivenInput {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  /** Reads the elements; `what` names the input in messages. */
  readonly parse: (info: DatatypeInfo, count: number, what: string) => Elements | Refusal;
}

/** Above this no tensor fits into memory, and products of dimensions stay exact. */
const maxElements = 2 ** 32;
const maxRank = 32;

/** Runs a model; `outputNames` undefined means all outputs. A request whose client has gone is not begun. */
export async function runInference(
  session: Session,
  given: readonly GivenInput[],
  outputNames: readonly string[] | undefined,
  whenGone?: WhenGone,
): Promise<readonly NamedTensor[] | Refusal> {
  const names = pickOutputs(session, outputNames);
  if (names instanceof Refusal) return names;
  const tensors: NamedTensor[] = [];
  for (const input of given) {
    const tensor = parseInput(session, input);
    if (tensor instanceof Refusal) return tensor;
    if (tensors.some((other) => other.name === tensor.name)) return badRequest(`input ${quote(tensor.name)} is given twice`);
    tensors.push(tensor);
  }
  const missing = session.inputs.find((port) => !tensors.some((tensor) => tensor.name === port.name));
  if (missing !== undefined) return badRequest(`input ${quote(missing.name)} is missing`);
  return await session.run(tensors, names, whenGone);
}

function pickOutputs(session: Session, wanted: readonly string[] | undefined): readonly string[] | Refusal {
  const all = session.outputs.map((port) => port.name);
  if (wanted === undefined || wanted.length === 0) return all;
  const unknown = wanted.find((name) => !all.includes(name));
  if (unknown !== undefined) return badRequest(`there is no output ${quote(unknown)}; the model has ${list(all)}`);
  if (new Set(wanted).size !== wanted.length) return badRequest("an output is asked for twice");
  return wanted;
}

function parseInput(session: Session, input: GivenInput): NamedTensor | Refusal {
  const port = session.inputs.find((candidate) => candidate.name === input.name);
  if (port === undefined) {
    return badRequest(`there is no input ${quote(input.name)}; the model has ${list(session.inputs.map(({ name }) => name))}`);
  }
  const what = `input ${quote(input.name)}`;
  const datatype = findDatatype(input.datatype);
  if (datatype === undefined) return badRequest(`${what} has the unknown datatype ${quote(input.datatype)}`);
  if (datatype !== port.datatype)
    return badRequest(`${what} has datatype ${datatype.name}, but the model takes ${port.datatype.name}`);
  const count = countElements(port, input.shape, what);
  if (count instanceof Refusal) return count;
  const elements = input.parse(datatype, count, what);
  return elements instanceof Refusal ? elements : { name: port.name, datatype, shape: input.shape, elements };
}

/** The product of a shape that fits the model's. */
function countElements(port: Port, shape: readonly number[], what: string): number | Refusal {
  if (shape.length > maxRank) return badRequest(`${what} has ${shape.length} dimensions; at most ${maxRank} are allowed`);
  let count = 1;
  let bound = 1;
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || dim < 0) return badRequest(`the shape of ${what} must hold whole numbers from 0 up`);
    count *= dim;
    bound *= Math.max(1, dim);
    if (bound > maxElements) return badRequest(`the shape of ${what} makes more than ${maxElements} elements`);
  }
  const fits =
    port.shape.length === 0 ||
    (port.shape.length === shape.length && port.shape.every((dim, at) => dim === -1 || dim === shape[at]));
  if (fits) return count;
  return badRequest(`${what} has shape [${shape.join(", ")}], but the model takes [${port.shape.join(", ")}]`);
}

function list(names: readonly string[]): string {
  return names.slice(0, 16).map(quote).join(", ");
}
