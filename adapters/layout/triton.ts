// Owns how artefacts are laid out for Triton: NAME/VERSION/model.*, and config.pbtxt. Pure.
//
//   one file              -> 1/model.onnx, or what the format calls it
//   a folder of versions  -> the newest; all of them when config.pbtxt has a version_policy
//   a saved model         -> VERSION/model.savedmodel/
//   with config.pbtxt     -> as it is: the author knows Triton; only its name goes, which must be the folder's
//   with a schema         -> input and output in config.pbtxt
//
// A model file that is missing makes Triton's Python backend load for ever, so its presence is part of the layout.
import { enter, extensionOf, filesBelow, foldersOf, parseVersion } from "./folders.ts";
import { parsePbtxt, quote } from "./pbtxt.ts";
import { type Entry, type LayoutRequest, link, type Plan, refuse } from "./plan.ts";
import { readSchema, type Schema, type Tensor } from "./schema.ts";

interface Format {
  readonly backend: string;
  /** What a single model file is called. */
  readonly file: string | undefined;
  /** What it may be called in the artefact. */
  readonly extensions: readonly string[];
}

const formats: Readonly<Record<string, Format>> = {
  onnx: { backend: "onnxruntime", file: "model.onnx", extensions: [".onnx"] },
  pytorch: { backend: "pytorch", file: "model.pt", extensions: [".pt", ".pth", ".pt2"] },
  tensorrt: { backend: "tensorrt", file: "model.plan", extensions: [".plan", ".engine", ".trt"] },
  tensorflow: { backend: "tensorflow", file: "model.graphdef", extensions: [".graphdef", ".pb"] },
  keras: { backend: "tensorflow", file: undefined, extensions: [] },
  python: { backend: "python", file: "model.py", extensions: [".py"] },
  openvino: { backend: "openvino", file: "model.xml", extensions: [".xml"] },
};
const synonyms: Readonly<Record<string, string>> = { openvino_ir: "openvino", torchscript: "pytorch" };

/** These have no file names of their own here: what the files are, only a config.pbtxt can say. */
const configured: ReadonlySet<string> = new Set(["sklearn", "xgboost", "lightgbm", "triton", "ensemble"]);

const configName = "config.pbtxt";
const savedModel = ["saved_model.pb", "saved_model.pbtxt"];
const savedModelFolder = "model.savedmodel";

export function layoutTriton(request: LayoutRequest): Plan {
  const schema = readSchema(request);
  if (schema.kind === "refused") return schema;
  const name = synonyms[request.format] ?? request.format;
  const format = Object.hasOwn(formats, name) ? formats[name] : undefined;
  if (format === undefined && !configured.has(name)) return refuse(`Triton has no format ${request.format}`);
  if (request.artefact.kind === "file") return layoutFile(request, name, format, schema.schema);
  return layoutFolder(request, name, format, schema.schema);
}

function layoutFile({ artefact }: LayoutRequest, name: string, format: Format | undefined, schema: Schema | undefined): Plan {
  if (format === undefined) return refuse(needsConfig(name));
  if (format.file === undefined) {
    return refuse(`a ${name} model must be a saved model (a folder with saved_model.pb), not the file ${artefact.name}`);
  }
  if (name === "openvino") return refuse("an OpenVINO model is a folder with its .xml and .bin files");
  return { kind: "ok", entries: [link(artefact.name, `1/${format.file}`), ...configOf(format, schema)] };
}

function layoutFolder(request: LayoutRequest, name: string, format: Format | undefined, schema: Schema | undefined): Plan {
  const { artefact, schemaPath } = request;
  const skip = new Set(schemaPath === undefined ? [] : [schemaPath]);
  const top = enter(
    artefact,
    skip,
    (names) => names.has(configName) || [...names].some((one) => parseVersion(one) !== undefined),
  );
  if (top.files.includes(configName)) return layoutNative(request, top.base, top.files, format, schema);
  if (format === undefined) return refuse(needsConfig(name));
  const isModel = (names: ReadonlySet<string>): boolean =>
    savedModel.some((one) => names.has(one)) ||
    names.has(savedModelFolder) ||
    (format.file !== undefined && names.has(format.file));
  const { base, files, version = 1 } = enter(artefact, skip, isModel);
  if (files.length === 0) return refuse("the artefact has no files");
  const here = files.map((file) => link(base + file, `${version}/${file}`));
  const config = configOf(format, schema);
  if (format.backend === "tensorflow") {
    if (savedModel.some((file) => files.includes(file))) {
      const entries = files.map((file) => link(base + file, `${version}/${savedModelFolder}/${file}`));
      return { kind: "ok", entries: [...entries, ...config] };
    }
    if (savedModel.some((file) => files.includes(`${savedModelFolder}/${file}`)))
      return { kind: "ok", entries: [...here, ...config] };
    if (format.file === undefined) return refuse("there is no saved_model.pb in the artefact");
  }
  if (format.file !== undefined && files.includes(format.file)) return { kind: "ok", entries: [...here, ...config] };
  // A folder of that name: an ONNX model with its weights beside it.
  if (name === "onnx" && files.some((file) => file.startsWith("model.onnx/")))
    return { kind: "ok", entries: [...here, ...config] };
  return renameOne(name, format, base, files, version, config);
}

/** One file is the model, whatever it is called; the others keep their names beside it. */
function renameOne(
  name: string,
  format: Format,
  base: string,
  files: readonly string[],
  version: number,
  config: readonly Entry[],
): Plan {
  const found = files.filter((file) => !file.includes("/") && format.extensions.includes(extensionOf(file)));
  const [model] = found;
  if (model === undefined) return refuse(`there is no file of ${name} (${format.extensions.join(", ")}) in the artefact`);
  if (found.length > 1) return refuse(`which file is the model? There are ${found.slice(0, 5).join(", ")}`);
  const weights = model.replace(/\.[^.]*$/, ".bin");
  if (name === "openvino" && !files.includes(weights))
    return refuse(`the weights ${weights} of ${model} are not in the artefact`);
  const to = (file: string): string => {
    if (file === model) return format.file ?? file;
    return name === "openvino" && file === weights ? "model.bin" : file;
  };
  return { kind: "ok", entries: [...files.map((file) => link(base + file, `${version}/${to(file)}`)), ...config] };
}

function needsConfig(name: string): string {
  return `for a ${name} model Triton needs a ${configName} in the artefact`;
}

function configOf(format: Format, schema: Schema | undefined): readonly Entry[] {
  if (schema === undefined) return [];
  const fields = [`backend: ${quote(format.backend)}`, ...tensorFields(schema, 0)];
  return [{ kind: "text", to: configName, text: `${fields.join("\n")}\n` }];
}

/** As its author laid it out. */
function layoutNative(
  { artefact }: LayoutRequest,
  base: string,
  files: readonly string[],
  format: Format | undefined,
  schema: Schema | undefined,
): Plan {
  const text = artefact.texts.get(base + configName);
  if (text === undefined) return refuse(`${configName} is too large`);
  const config = parsePbtxt(text);
  if (config.kind === "refused") return config;
  const field = (name: string): string | undefined => config.fields.findLast((one) => one.name === name)?.value;
  const batch = field("max_batch_size") ?? "0";
  if (!/^\d{1,9}$/.test(batch)) return refuse(`max_batch_size in ${configName} is no whole number`);
  const maxBatchSize = Number(batch);
  const strange = schema === undefined || maxBatchSize === 0 ? undefined : unbatched(schema);
  if (strange !== undefined) {
    return refuse(`${configName} has batches, so the first dimension of ${strange.name} in the schema must be -1`);
  }
  const replaced = new Set(schema === undefined ? ["name"] : ["name", "input", "output"]);
  const kept = config.fields.filter(({ name }) => !replaced.has(name)).map((one) => one.text);
  const added = schema === undefined ? [] : tensorFields(schema, maxBatchSize);
  const backendText = (field("backend") ?? field("platform") ?? "").replaceAll(/["']/g, "");
  const ensemble = backendText === "ensemble" || field("ensemble_scheduling") !== undefined;
  const versions = foldersOf(files)
    .filter((folder) => parseVersion(folder) !== undefined)
    .toSorted((a, b) => Number(b) - Number(a));
  const wanted = field("version_policy") === undefined ? versions.slice(0, 1) : versions;
  if (wanted.length === 0 && !ensemble) return refuse(`beside ${configName} there must be a folder for each version, such as 1`);
  const missing = wanted.find((version) => !hasModel(artefact, `${base}${version}/`, field, backendText, format));
  if (missing !== undefined && !ensemble) return refuse(`the model file of version ${missing} is not in the artefact`);
  const others = files.filter((file) => file !== configName && !versions.includes(file.split("/", 1)[0] ?? ""));
  const linked = files.filter((file) => wanted.includes(file.split("/", 1)[0] ?? "") && file.includes("/"));
  // An ensemble has no files, and a folder without files is lost on many a way; Triton wants its version all the same.
  const empty: readonly Entry[] = wanted.length === 0 ? [{ kind: "text", to: "1/.version", text: "" }] : [];
  return {
    kind: "ok",
    entries: [
      ...[...others, ...linked].map((file) => link(base + file, file)),
      ...empty,
      { kind: "text", to: configName, text: `${[...kept, ...added].join("\n")}\n` },
    ],
  };
}

/** A file that a backend always wants; other backends say themselves what they miss. */
function hasModel(
  artefact: LayoutRequest["artefact"],
  folder: string,
  field: (name: string) => string | undefined,
  backend: string,
  format: Format | undefined,
): boolean {
  const files = filesBelow(artefact, folder);
  const named = field("default_model_filename")?.replaceAll(/["']/g, "");
  if (named !== undefined) return files.some((file) => file === named || file.startsWith(`${named}/`));
  if (backend === "python" || (backend === "" && format?.backend === "python")) return files.includes("model.py");
  return files.length > 0;
}

function unbatched({ inputs, outputs }: Schema): Tensor | undefined {
  return [...inputs, ...outputs].find(({ shape }) => shape[0] !== -1);
}

function tensorFields({ inputs, outputs }: Schema, maxBatchSize: number): readonly string[] {
  return [...tensorField("input", inputs, maxBatchSize), ...tensorField("output", outputs, maxBatchSize)];
}

function tensorField(field: string, tensors: readonly Tensor[], maxBatchSize: number): readonly string[] {
  if (tensors.length === 0) return [];
  const messages = tensors.map(({ name, datatype, shape }) => {
    const dims = maxBatchSize > 0 ? shape.slice(1) : shape;
    const type = `TYPE_${datatype === "BYTES" ? "STRING" : datatype}`;
    // Triton wants at least one dimension; what is only the batch, or a scalar, is told by a reshape.
    const sized = dims.length > 0 ? `dims: [${dims.join(", ")}]` : "dims: [1] reshape: { shape: [] }";
    return `  { name: ${quote(name)} data_type: ${type} ${sized} }`;
  });
  return [`${field} [\n${messages.join(",\n")}\n]`];
}
