// Owns answers of the V2 protocol as a checker sees them: tensors read from an unknown JSON body, held against what the
// oracle expects. https://github.com/kserve/open-inference-protocol
import { indexOfLargest } from "./magika.ts";

export interface InferInput {
  readonly name: string;
  readonly shape: readonly [number, number];
  readonly datatype: "FP32" | "INT32";
  readonly data: readonly number[];
}

/** The body of POST /v2/models/NAME/infer. */
export interface InferBody {
  readonly inputs: readonly [InferInput];
}

export interface AnswerTensor {
  readonly name: string;
  readonly data: ArrayLike<number>;
}

/** What the answer to one row must be. */
export type Expectation =
  /** Output `label`; and output `scores`, which tells one tenant's model from another's. */
  | { readonly kind: "label"; readonly value: number; readonly scores: readonly number[]; readonly tolerance: number }
  /** Output `prediction`. */
  | { readonly kind: "value"; readonly value: number; readonly tolerance: number }
  /** The place of the largest element of an output. */
  | { readonly kind: "largest"; readonly output: string; readonly value: number; readonly length: number };

/** Why the answer is wrong; undefined when it is right. */
export function refuteAnswer(expect: Expectation, outputs: readonly AnswerTensor[]): string | undefined {
  if (expect.kind === "label") return refuteLabel(expect, outputs);
  return expect.kind === "value" ? refuteValue(expect, outputs) : refuteLargest(expect, outputs);
}

type ExpectationOf<Kind extends Expectation["kind"]> = Extract<Expectation, { readonly kind: Kind }>;

function refuteLabel(expect: ExpectationOf<"label">, outputs: readonly AnswerTensor[]): string | undefined {
  const label = read(outputs, "label", 1);
  const scores = read(outputs, "scores", expect.scores.length);
  if (typeof label === "string") return label;
  if (typeof scores === "string") return scores;
  if (label[0] !== expect.value) return `label is ${label[0]}, not ${expect.value}`;
  const far = expect.scores.findIndex((score, at) => !isNear(scores[at], score, expect.tolerance));
  return far === -1 ? undefined : `scores[${far}] is ${scores[far]}, not ${expect.scores[far]}`;
}

function refuteValue(expect: ExpectationOf<"value">, outputs: readonly AnswerTensor[]): string | undefined {
  const found = read(outputs, "prediction", 1);
  if (typeof found === "string") return found;
  return isNear(found[0], expect.value, expect.tolerance) ? undefined : `prediction is ${found[0]}, not ${expect.value}`;
}

function refuteLargest(expect: ExpectationOf<"largest">, outputs: readonly AnswerTensor[]): string | undefined {
  const found = read(outputs, expect.output, expect.length);
  if (typeof found === "string") return found;
  const at = indexOfLargest(found);
  return at === expect.value ? undefined : `the largest of ${expect.output} is at ${at}, not ${expect.value}`;
}

/** The tensors of a V2 JSON answer; undefined when it is none, or holds what is no number. */
export function parseAnswer(body: unknown): readonly AnswerTensor[] | undefined {
  if (!isRecord(body) || !Array.isArray(body["outputs"])) return undefined;
  const tensors: AnswerTensor[] = [];
  for (const output of body["outputs"] as readonly unknown[]) {
    if (!isRecord(output)) return undefined;
    const { name, data } = output;
    if (typeof name !== "string" || !isNumbers(data)) return undefined;
    tensors.push({ name, data });
  }
  return tensors;
}

function read(outputs: readonly AnswerTensor[], name: string, length: number): ArrayLike<number> | string {
  const data = outputs.find((output) => output.name === name)?.data;
  if (data === undefined) return `the answer has no output ${name}`;
  return data.length === length ? data : `${name} has ${data.length} elements, not ${length}`;
}

/** Relative to the expected value, or absolute below 1. */
function isNear(found: number | undefined, expected: number, tolerance: number): boolean {
  return found !== undefined && Math.abs(found - expected) <= tolerance * Math.max(1, Math.abs(expected));
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function isNumbers(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((element) => typeof element === "number");
}
