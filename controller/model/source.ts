// Owns what the three kinds that stand for a model have in common: a name, the revisions wanted, which one is to be
// active, how it is to be kept. Pure: an object becomes a source, is none of our business, or is refused in one sentence.
import { createHash } from "node:crypto";
import { isRecord, maxSettings, parseAllSettings } from "#core/fields.ts";
import { type Priority, priorities } from "#core/model.ts";
import { type KubeObject, list, record, text, texts } from "../engine/objects.ts";
import { annotations } from "../kinds.ts";
import { parseQuantity } from "../quantity.ts";

/** Which kind it comes from; part of the names that its revisions get. */
export type Owner = "isvc" | "ksp" | "model";

export interface SourceRevision {
  /** Its user's name for it; the hash of its content is added. */
  readonly label: string | undefined;
  readonly format: string;
  readonly formatVersion: string | undefined;
  readonly protocol: string | undefined;
  /** Named by the user; one that suits is chosen when absent. */
  readonly runtime: string | undefined;
  readonly storageUri: string;
  readonly storageKey: string | undefined;
  readonly storageParameters: Readonly<Record<string, string>>;
  readonly schemaPath: string | undefined;
  readonly sizeHintBytes: number | undefined;
  readonly requiredLabels: Readonly<Record<string, string>>;
  readonly preferredLabels: Readonly<Record<string, string>>;
}

export interface SourceOptions {
  readonly split: readonly { readonly revision: string; readonly percent: number }[];
  readonly mirror: { readonly revision: string; readonly percent: number } | undefined;
  readonly minCopies: number | undefined;
  readonly maxCopies: number | undefined;
  readonly priority: Priority | undefined;
  readonly pinned: boolean | undefined;
}

export interface Source {
  readonly owner: Owner;
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly generation: number;
  readonly revisions: readonly SourceRevision[];
  /** At this place among the revisions. */
  readonly active: number;
  readonly options: SourceOptions;
  /** Those of its object that a record can hold: policies select by them. */
  readonly labels: Readonly<Record<string, string>>;
  /** What the object's status says now. */
  readonly status: Readonly<Record<string, unknown>>;
  /** What is wrong with it, for its user; then it has no revisions. */
  readonly invalid: string | undefined;
}

const frameworks = ["sklearn", "xgboost", "lightgbm", "tensorflow", "onnx", "pytorch", "triton", "pmml"] as const;
const noOptions: SourceOptions = Object.freeze({
  split: [],
  mirror: undefined,
  minCopies: undefined,
  maxCopies: undefined,
  priority: undefined,
  pinned: undefined,
});

type Reading = { readonly kind: "ok"; readonly revision: SourceRevision } | { readonly kind: "refused"; readonly reason: string };

/** Undefined when it is for another deployment mode. */
export function parseInferenceService(object: KubeObject): Source | undefined {
  const { metadata, body } = object;
  if (metadata.annotations[annotations.deploymentMode] !== "ModelMesh") return undefined;
  const options = readOptions(metadata.annotations);
  if (options.kind === "refused") return sourceOf("isvc", object, { reason: options.reason });
  const predictor = record(record(body["spec"])["predictor"]);
  const read = readPredictor(predictor, metadata.annotations, options.sizeHintBytes);
  return sourceOf(
    "isvc",
    object,
    read.kind === "ok" ? { revisions: [read.revision], options: options.options } : { reason: read.reason },
  );
}

function readPredictor(
  predictor: Readonly<Record<string, unknown>>,
  notes: Readonly<Record<string, string>>,
  sizeHintBytes: number | undefined,
): Reading {
  const older = frameworks.filter((framework) => isRecord(predictor[framework]));
  const model = isRecord(predictor["model"]) ? predictor["model"] : undefined;
  if (older.length + (model === undefined ? 0 : 1) > 1)
    return refuse("the predictor names several models: use model, or one of the framework blocks");
  if (model === undefined && older.length === 0)
    return refuse(`the predictor names no model: use model, or one of ${frameworks.join(", ")}`);
  const named = notes[annotations.servingRuntime];
  if (model !== undefined && named !== undefined)
    return refuse(
      `say the runtime in predictor.model.runtime: the annotation ${annotations.servingRuntime} is for the framework blocks`,
    );
  const from = model ?? record(predictor[older[0] ?? ""]);
  const format = model === undefined ? older[0] : text(record(from["modelFormat"])["name"]);
  if (format === undefined) return refuse("predictor.model.modelFormat.name is missing");
  const storage = readStorage(from, notes);
  if (storage.kind === "refused") return storage;
  return {
    kind: "ok",
    revision: {
      ...plain,
      ...storage.storage,
      label: undefined,
      format,
      formatVersion: model === undefined ? undefined : text(record(from["modelFormat"])["version"]),
      protocol: text(from["protocolVersion"]),
      runtime: model === undefined ? named : text(from["runtime"]),
      sizeHintBytes,
    },
  };
}

type Storage = Pick<SourceRevision, "storageUri" | "storageKey" | "storageParameters" | "schemaPath">;

function readStorage(
  from: Readonly<Record<string, unknown>>,
  notes: Readonly<Record<string, string>>,
): { readonly kind: "ok"; readonly storage: Storage } | { readonly kind: "refused"; readonly reason: string } {
  const uri = text(from["storageUri"]);
  const storage = record(from["storage"]);
  const path = text(storage["path"]);
  if (uri !== undefined && path !== undefined)
    return refuse("say where the artefact lies once: storageUri or storage.path, not both");
  if (uri === undefined && path === undefined)
    return refuse("the predictor does not say where the artefact lies: storageUri or storage.path is needed");
  return {
    kind: "ok",
    storage: {
      storageUri: uri ?? storedAt(path ?? ""),
      storageKey: text(storage["key"]) ?? notes[annotations.secretKey],
      storageParameters: texts(storage["parameters"]),
      schemaPath: text(storage["schemaPath"]) ?? notes[annotations.schemaPath],
    },
  };
}

/** A path whose kind of storage an entry of the storage settings says. */
function storedAt(path: string): string {
  return `storage:///${path.replace(/^\/+/, "")}`;
}

export function parsePredictor(object: KubeObject): Source {
  const spec = record(object.body["spec"]);
  const storage = record(spec["storage"]);
  const s3 = isRecord(storage["s3"]) ? storage["s3"] : undefined;
  const read = ((): Reading => {
    const format = text(record(spec["modelType"])["name"]);
    if (format === undefined) return refuse("modelType.name is missing");
    if (text(spec["path"]) !== undefined && text(storage["path"]) !== undefined)
      return refuse("say the path once: path is the older form of storage.path");
    if (text(spec["schemaPath"]) !== undefined && text(storage["schemaPath"]) !== undefined)
      return refuse("say the schema once: schemaPath is the older form of storage.schemaPath");
    if (isRecord(storage["persistentVolumeClaim"]))
      return refuse("storage.persistentVolumeClaim has no effect: use storage.parameters with type pvc and the claim's name");
    if (
      s3 !== undefined &&
      (storage["key"] !== undefined || storage["path"] !== undefined || storage["parameters"] !== undefined)
    )
      return refuse("storage.s3 is the older form of storage.key and storage.parameters: use only one of them");
    const path = text(storage["path"]) ?? text(spec["path"]);
    if (!isRecord(spec["storage"]) || path === undefined) return refuse("Predictor Storage field missing");
    const bucket = text(s3?.["bucket"]);
    return {
      kind: "ok",
      revision: {
        ...plain,
        label: undefined,
        format,
        formatVersion: text(record(spec["modelType"])["version"]),
        protocol: text(spec["protocolVersion"]),
        runtime: text(record(spec["runtime"])["name"]),
        storageUri: storedAt(path),
        storageKey: text(storage["key"]) ?? text(s3?.["secretKey"]),
        storageParameters:
          s3 === undefined ? texts(storage["parameters"]) : { type: "s3", ...(bucket === undefined ? {} : { bucket }) },
        schemaPath: text(storage["schemaPath"]) ?? text(spec["schemaPath"]),
        sizeHintBytes: undefined,
      },
    };
  })();
  const options = readOptions(object.metadata.annotations);
  if (options.kind === "refused") return sourceOf("ksp", object, { reason: options.reason });
  if (read.kind === "refused") return sourceOf("ksp", object, { reason: read.reason });
  const revision = { ...read.revision, sizeHintBytes: options.sizeHintBytes };
  return sourceOf("ksp", object, { revisions: [revision], options: options.options });
}

/** Our own kind: what its schema does not hold, this does. */
export function parseModelObject(object: KubeObject): Source {
  const spec = record(object.body["spec"]);
  const revisions: SourceRevision[] = [];
  for (const each of list(spec["revisions"])) {
    const revision = record(each);
    const label = text(revision["name"]);
    const format = text(revision["format"]);
    const storageUri = text(revision["storageUri"]);
    if (label === undefined || format === undefined || storageUri === undefined)
      return sourceOf("model", object, { reason: "a revision needs name, format and storageUri" });
    const size = revision["size"];
    const sizeHintBytes = size === undefined ? undefined : parseQuantity(size);
    if (size !== undefined && (sizeHintBytes === undefined || sizeHintBytes < 1))
      return sourceOf("model", object, { reason: `the size of revision ${label} must be like 64Mi` });
    revisions.push({
      label,
      format,
      formatVersion: text(revision["formatVersion"]),
      protocol: undefined,
      runtime: text(revision["runtime"]),
      storageUri,
      storageKey: text(revision["storageKey"]),
      storageParameters: texts(revision["storageParameters"]),
      schemaPath: text(revision["schemaPath"]),
      sizeHintBytes: sizeHintBytes === undefined ? undefined : Math.ceil(sizeHintBytes),
      requiredLabels: texts(revision["requiredLabels"]),
      preferredLabels: texts(revision["preferredLabels"]),
    });
  }
  const wanted = text(spec["active"]);
  const active = wanted === undefined ? 0 : revisions.findIndex(({ label }) => label === wanted);
  if (revisions.length === 0 || active === -1 || (wanted === undefined && revisions.length > 1))
    return sourceOf("model", object, { reason: "active must be the name of one of the revisions" });
  const share = (value: unknown): { readonly revision: string; readonly percent: number } => ({
    revision: text(record(value)["revision"]) ?? "",
    percent: Number(record(value)["percent"]),
  });
  const options: SourceOptions = {
    split: list(spec["split"]).map(share),
    mirror: isRecord(spec["mirror"]) ? share(spec["mirror"]) : undefined,
    minCopies: whole(spec["minCopies"]),
    maxCopies: whole(spec["maxCopies"]),
    priority: priorities.find((known) => known === spec["priority"]),
    pinned: typeof spec["pinned"] === "boolean" ? spec["pinned"] : undefined,
  };
  return sourceOf("model", object, { revisions, options, active });
}

/** From our own annotations, for the kinds whose fields are given. */
function readOptions(
  notes: Readonly<Record<string, string>>,
):
  | { readonly kind: "ok"; readonly options: SourceOptions; readonly sizeHintBytes: number | undefined }
  | { readonly kind: "refused"; readonly reason: string } {
  const count = (name: string): number | undefined => (notes[name] === undefined ? undefined : Number(notes[name]));
  const minCopies = count(annotations.minCopies);
  const maxCopies = count(annotations.maxCopies);
  for (const [name, value] of [
    [annotations.minCopies, minCopies],
    [annotations.maxCopies, maxCopies],
  ] as const) {
    if (value !== undefined && whole(value) === undefined) return refuse(`the annotation ${name} must be a whole number`);
  }
  if (minCopies !== undefined && maxCopies !== undefined && minCopies > maxCopies)
    return refuse(`the annotation ${annotations.minCopies} must not be more than ${annotations.maxCopies}`);
  const size = notes[annotations.size];
  const sizeHintBytes = size === undefined ? undefined : parseQuantity(size);
  if (size !== undefined && (sizeHintBytes === undefined || sizeHintBytes < 1))
    return refuse(`the annotation ${annotations.size} must be like 64Mi`);
  const priority = priorities.find((known) => known === notes[annotations.priority]);
  if (notes[annotations.priority] !== undefined && priority === undefined)
    return refuse(`the annotation ${annotations.priority} must be one of ${priorities.join(", ")}`);
  const pinned = notes[annotations.pinned];
  if (pinned !== undefined && pinned !== "true" && pinned !== "false")
    return refuse(`the annotation ${annotations.pinned} must be true or false`);
  return {
    kind: "ok",
    sizeHintBytes: sizeHintBytes === undefined ? undefined : Math.ceil(sizeHintBytes),
    options: { ...noOptions, minCopies, maxCopies, priority, pinned: pinned === undefined ? undefined : pinned === "true" },
  };
}

const plain = { requiredLabels: {}, preferredLabels: {} } as const;

function sourceOf(
  owner: Owner,
  { metadata, body }: KubeObject,
  read:
    | { readonly reason: string }
    | { readonly revisions: readonly SourceRevision[]; readonly options: SourceOptions; readonly active?: number },
): Source {
  const isRefused = "reason" in read;
  return {
    owner,
    name: metadata.name,
    namespace: metadata.namespace ?? "",
    uid: metadata.uid,
    generation: metadata.generation,
    revisions: isRefused ? [] : read.revisions,
    active: isRefused ? 0 : (read.active ?? 0),
    options: isRefused ? noOptions : read.options,
    labels: labelsOf(metadata.labels),
    status: record(body["status"]),
    invalid: isRefused ? read.reason : undefined,
  };
}

/** In one order; one entry is left for whose the record is. */
function labelsOf(given: KubeObject["metadata"]["labels"]): Source["labels"] {
  const fitting = Object.entries(given)
    .filter(([key, value]) => parseAllSettings({ labels: { [key]: value } }, ["labels"]).kind === "ok")
    .sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(fitting.slice(0, maxSettings - 1));
}

const maxIdLength = 253;

/**
 * Named after its content, so that going back to an earlier spec is going back to that revision:
 * `NAME__isvc-0123456789`, or for our own kind `REVISION-0123456789`.
 */
export function revisionIdOf(source: Pick<Source, "name" | "owner">, revision: SourceRevision, runtime: string): string {
  const { label, ...content } = revision;
  const hash = createHash("sha1")
    .update(JSON.stringify([sorted(content), runtime]))
    .digest("hex")
    .slice(0, 10);
  const stem = label ?? `${source.name}__${source.owner}`;
  return `${stem.slice(0, maxIdLength - hash.length - 1)}-${hash}`;
}

/** Whatever the order in which the fields of an object came. */
function sorted(value: unknown): unknown {
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, each]) => each !== undefined)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([key, each]) => [key, sorted(each)]),
  );
}

function whole(value: unknown): number | undefined {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 1_000 ? value : undefined;
}

function refuse(reason: string): { readonly kind: "refused"; readonly reason: string } {
  return { kind: "refused", reason };
}
