// Owns what a registration says and what record it becomes: the short form with one artefact, and the whole record.
// Invariants: every field of a Model and a Revision can be given; one that is not known is refused by its name; a revision
// without an id is named after its content, so the same content is the same revision and another one never is.
import { createHash } from "node:crypto";
import { z } from "zod";
import { type Found, refused } from "#core/fields.ts";
import {
  freeSlot,
  type Model,
  maxCopiesLimit,
  maxSizeHintBytes,
  maxSlot,
  parseModel,
  parseRevision,
  priorities,
} from "#core/model.ts";
import { type RevisionSpec, specText } from "#core/revision.ts";

const text = z.string();
const texts = z.record(z.string(), z.string());
/** The bounds are told here, and held to where records are parsed, which says it in words. */
const whole = (minimum: number, maximum: number): z.ZodType<number, number> => z.number().int().meta({ minimum, maximum });
const copies = (least: number): z.ZodType<number, number> => whole(least, maxCopiesLimit);

const specShape = {
  format: text.describe("Of the artefact, such as onnx."),
  formatVersion: text.optional().describe("Of the format; any when absent."),
  runtime: text.optional().describe("Only pods of this runtime may hold it."),
  storageUri: text.describe("Where the artefact lies, such as s3://bucket/path."),
  storageKey: text.optional().describe("Which entry of the pods' storage settings says how to get there."),
  storageParameters: texts.optional().describe("Laid over that entry; never credentials."),
  schemaPath: text.optional().describe("A file of input and output tensors, relative to the artefact."),
  requiredLabels: texts.optional().describe("Labels that a pod must have."),
  preferredLabels: texts.optional().describe("Labels that make a pod the better one."),
  sizeHintBytes: whole(1, maxSizeHintBytes).optional().describe("What a copy will take, when known."),
};

const settingsShape = {
  minCopies: copies(0).optional().describe("Copies kept whatever the demand."),
  maxCopies: copies(1).optional().describe("No more copies than so many."),
  pinned: z.boolean().optional().describe("Its copies are never evicted for others."),
  priority: z.enum(priorities).optional().describe("Of its loads among others."),
  tenant: text.optional().describe("Whose it is."),
  labels: texts.optional().describe("What lists and policies select by."),
};

const share = z.strictObject({ revision: text, percent: whole(1, 100) });

/** The spec of a revision, alone. */
export const revisionBody = z.strictObject({ id: text.optional().describe("Made from the content when absent."), ...specShape });

const registrationFields = z.strictObject({
  ...z.object(specShape).partial().shape,
  revision: text.optional().describe("Id of the only revision; made from the content when absent."),
  ...settingsShape,
  revisions: z
    .array(z.strictObject({ id: text, slot: whole(0, maxSlot).optional(), ...specShape }))
    .optional()
    .describe("The whole record instead: all revisions, with active, target, split and mirror."),
  active: text.optional(),
  target: text.optional(),
  loadNow: z.boolean().optional(),
  split: z.array(share).optional(),
  mirror: share.optional(),
});

/** Nothing at all is no model: whoever forgot the body hears of that. */
export const registrationBody = registrationFields.refine((given) => Object.keys(given).length > 0, {
  error: "the body is empty: a model has format and storageUri, or revisions",
});

const nullable = <T extends z.ZodType>(schema: T): z.ZodOptional<z.ZodNullable<T>> => schema.nullable().optional();

/** null takes a setting away. */
export const settingsBody = z.strictObject({
  minCopies: nullable(copies(0)),
  maxCopies: nullable(copies(1)),
  pinned: nullable(z.boolean()),
  priority: nullable(z.enum(priorities)),
  tenant: nullable(text),
  labels: nullable(texts),
});

export const splitBody = z.strictObject({ split: z.array(share) });
export const mirrorBody = z.strictObject({ mirror: share.nullable() });

export type Registration = z.infer<typeof registrationBody>;
export type RevisionInput = z.infer<typeof revisionBody>;
export type SettingsInput = z.infer<typeof settingsBody>;

/** One revision, with the id that its content gives it unless it has one. */
export function readSpec(input: RevisionInput): Found<RevisionSpec> {
  const draft = parseRevision({ ...input, id: input.id ?? "unnamed", slot: 0 });
  if (draft.kind === "refused") return draft;
  const { slot: _, ...spec } = draft.revision;
  return { kind: "ok", found: input.id === undefined ? { ...spec, id: nameSpec(spec) } : spec };
}

/** The record that a registration makes where there is none; `known` gives slots to revisions that it has. */
export function readRegistration(name: string, input: Registration, known: Model | undefined): Found<Model> {
  const { minCopies, maxCopies, pinned, priority, tenant, labels, split, mirror } = input;
  const settings = { minCopies, maxCopies, pinned, priority, tenant, labels, split, mirror };
  const { format, storageUri, revision: id, revisions, active, target, loadNow } = input;
  if (revisions !== undefined) {
    const extra = [...Object.keys(specShape), "revision"].find((field) => Object.hasOwn(input, field));
    if (extra !== undefined) return refused(`${extra} belongs into one of the revisions`);
    const slotted = giveSlots(revisions, known);
    return toFound(parseModel({ name, revisions: slotted, active, target, loadNow, ...settings }));
  }
  const strange = Object.entries({ active, target, loadNow }).find(([, value]) => value !== undefined)?.[0];
  if (strange !== undefined) return refused(`${strange} needs revisions beside it`);
  if (format === undefined) return refused("format is missing");
  if (storageUri === undefined) return refused("storageUri is missing");
  const spec = readSpec({ ...pickSpec(input), format, storageUri, ...(id === undefined ? {} : { id }) });
  if (spec.kind === "refused") return spec;
  const revision = { ...spec.found, slot: known?.revisions.find((other) => other.id === spec.found.id)?.slot ?? 0 };
  return toFound(parseModel({ name, revisions: [revision], active: revision.id, ...settings }));
}

function pickSpec(input: Registration): Omit<RevisionInput, "id" | "format" | "storageUri"> {
  const { formatVersion, runtime, storageKey, storageParameters, schemaPath, requiredLabels, preferredLabels, sizeHintBytes } =
    input;
  return { formatVersion, runtime, storageKey, storageParameters, schemaPath, requiredLabels, preferredLabels, sizeHintBytes };
}

function giveSlots(
  revisions: NonNullable<Registration["revisions"]>,
  known: Model | undefined,
): readonly (Record<string, unknown> & { readonly slot: number })[] {
  const given: { readonly slot: number }[] = revisions.flatMap(({ slot }) => (slot === undefined ? [] : [{ slot }]));
  return revisions.map((revision) => {
    if (revision.slot !== undefined) return { ...revision, slot: revision.slot };
    const before = known?.revisions.find(({ id }) => id === revision.id)?.slot;
    const taken = before !== undefined && given.some(({ slot }) => slot === before);
    // 16 are refused by parseModel, as there is no such slot.
    const slot = before !== undefined && !taken ? before : (freeSlot({ revisions: given }) ?? 16);
    given.push({ slot });
    return { ...revision, slot };
  });
}

/** Another content never gets the id of this one. */
export function nameSpec(spec: Omit<RevisionSpec, "id">): string & RevisionSpec["id"] {
  const id = `r-${createHash("sha256").update(specText(spec)).digest("hex").slice(0, 12)}`;
  return id as RevisionSpec["id"];
}

function toFound(parsed: ReturnType<typeof parseModel>): Found<Model> {
  return parsed.kind === "ok" ? { kind: "ok", found: parsed.model } : parsed;
}
