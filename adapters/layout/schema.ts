// Owns the schema file of a model: its input and output tensors, as users of ModelMesh write them:
// {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}], "outputs": [...]}. Pure.
import { z } from "zod";
import { type LayoutRequest, type Refused, refuse } from "./plan.ts";

export const datatypes = [
  "BOOL",
  "UINT8",
  "UINT16",
  "UINT32",
  "UINT64",
  "INT8",
  "INT16",
  "INT32",
  "INT64",
  "FP16",
  "FP32",
  "FP64",
  "BYTES",
  "BF16",
] as const;

export interface Tensor {
  readonly name: string;
  readonly datatype: (typeof datatypes)[number];
  /** -1: of any length. */
  readonly shape: readonly number[];
}

export interface Schema {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

const tensors = z
  .array(
    z.object({
      name: z.string().min(1).max(500),
      datatype: z.enum(datatypes, { error: `must be one of ${datatypes.join(", ")}` }),
      shape: z.array(z.int().min(-1)).max(32),
    }),
  )
  .max(1_000)
  .default([])
  .superRefine((list, context) => {
    const names = new Set<string>();
    for (const [at, { name }] of list.entries()) {
      if (names.has(name)) context.addIssue({ code: "custom", path: [at, "name"], message: "is there twice" });
      names.add(name);
    }
  });
const schemaSchema = z
  .object({ inputs: tensors, outputs: tensors })
  .refine(({ inputs, outputs }) => inputs.length + outputs.length > 0, { error: "names no tensor" });

export type ReadSchema = { readonly kind: "ok"; readonly schema: Schema | undefined } | Refused;

/** The schema that the request names, if it names one. */
export function readSchema({ artefact, schemaPath }: LayoutRequest): ReadSchema {
  if (schemaPath === undefined) return { kind: "ok", schema: undefined };
  const text = artefact.texts.get(schemaPath);
  if (text === undefined) {
    const there = artefact.files.includes(schemaPath);
    return refuse(`the schema ${schemaPath} ${there ? "is too large to be one" : "is not in the artefact"}`);
  }
  return parseSchema(text);
}

export function parseSchema(text: string): { readonly kind: "ok"; readonly schema: Schema } | Refused {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return refuse("the schema is no JSON");
  }
  const parsed = schemaSchema.safeParse(json);
  if (parsed.success) return { kind: "ok", schema: parsed.data };
  const issue = parsed.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? "" : ` at ${issue.path.join(".")}`;
  return refuse(`the schema is wrong${where}: ${issue?.message ?? "it has another form"}`);
}
