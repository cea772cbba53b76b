// Owns how artefacts are told to MLServer: a model-settings.json that names the model, its implementation and where it
// lies. Pure.
//
//   no settings in the artefact -> settings of ours, with the path of the model's file or folder
//   settings in the artefact    -> kept, but for the name, the path and what a schema says
//
// The artefact's files lie beside the settings, so that Python modules of its own are found.
// A path in an artefact's settings must stay inside it.
import { z } from "zod";
import { enter, extensionOf, parseInnerPath } from "./folders.ts";
import { type Entry, type LayoutRequest, link, type Plan, type Refused, refuse } from "./plan.ts";
import { readSchema, type Schema } from "./schema.ts";

export interface MlserverRequest extends LayoutRequest {
  readonly serverName: string;
  /** Absolute: where the model server will see the entries of the plan. */
  readonly folder: string;
}

interface Format {
  readonly implementation: string;
  /** Names that its runtime knows, and what the only file may end with. Without extensions it wants the folder of these. */
  readonly files: { readonly known: readonly string[]; readonly extensions?: readonly string[] };
}

const boosters = [".bst", ".json", ".ubj", ".model"];
const formats: Readonly<Record<string, Format>> = {
  sklearn: {
    implementation: "mlserver_sklearn.SKLearnModel",
    files: { known: ["model.joblib", "model.pickle", "model.pkl"], extensions: [".joblib", ".pickle", ".pkl"] },
  },
  xgboost: {
    implementation: "mlserver_xgboost.XGBoostModel",
    files: { known: ["model.bst", "model.json", "model.ubj"], extensions: boosters },
  },
  lightgbm: {
    implementation: "mlserver_lightgbm.LightGBMModel",
    files: { known: ["model.bst"], extensions: [".bst", ".txt", ".model"] },
  },
  catboost: {
    implementation: "mlserver_catboost.CatboostModel",
    files: { known: ["model.cbm", "model.bin"], extensions: [".cbm", ".bin"] },
  },
  onnx: { implementation: "warmpath_onnx.OnnxModel", files: { known: ["model.onnx"], extensions: [".onnx"] } },
  mllib: { implementation: "mlserver_mllib.MLlibModel", files: { known: ["metadata"] } },
  mlflow: { implementation: "mlserver_mlflow.MLflowRuntime", files: { known: ["MLmodel"] } },
  huggingface: {
    implementation: "mlserver_huggingface.HuggingFaceRuntime",
    files: { known: ["config.json", "model_index.json"] },
  },
};

export const settingsName = "model-settings.json";

const settingsSchema = z.looseObject({
  implementation: z.string().min(1).optional(),
  parameters: z.looseObject({ uri: z.string().optional() }).optional(),
});

export function layoutMlserver(request: MlserverRequest): Plan {
  const { artefact, schemaPath, format: formatName } = request;
  const schema = readSchema(request);
  if (schema.kind === "refused") return schema;
  const format = Object.hasOwn(formats, formatName) ? formats[formatName] : undefined;
  if (artefact.kind === "file") {
    if (format === undefined) return refuse(unknown(formatName));
    if (format.files.extensions === undefined) return refuse(`a ${formatName} model is a folder, not the file ${artefact.name}`);
    return generated(request, format, artefact.name, [link(artefact.name, artefact.name)], undefined, schema.schema);
  }
  const skip = new Set(schemaPath === undefined ? [] : [schemaPath]);
  const isThere = (names: ReadonlySet<string>): boolean =>
    names.has(settingsName) || format?.files.known.some((file) => names.has(file)) === true;
  const { base, files, version } = enter(artefact, skip, isThere);
  if (files.includes(settingsName)) return authored(request, format, base, files, version, schema.schema);
  if (format === undefined) return refuse(unknown(formatName));
  if (files.length === 0) return refuse("the artefact has no files");
  const { known, extensions } = format.files;
  const links = files.map((file) => link(base + file, file));
  if (extensions === undefined) {
    const there = known.some((name) => files.some((file) => file === name || file.startsWith(`${name}/`)));
    return there
      ? generated(request, format, "", links, version, schema.schema)
      : refuse(`there is no ${known.join(" or ")} in the artefact, which makes a folder a ${formatName} model`);
  }
  const file = modelFile(formatName, known, extensions, files);
  if (typeof file !== "string") return file;
  return generated(request, format, file, links, version, schema.schema);
}

function unknown(format: string): string {
  return `MLServer has no format ${format}: put a ${settingsName} with its implementation into the artefact`;
}

function modelFile(
  name: string,
  known: readonly string[],
  extensions: readonly string[],
  files: readonly string[],
): string | Refused {
  const usual = known.find((file) => files.includes(file));
  if (usual !== undefined) return usual;
  const found = files.filter((file) => !file.includes("/") && extensions.includes(extensionOf(file)));
  const [only] = found;
  // A single file is the model, whatever it is called.
  const [single] = files;
  if (only === undefined && files.length === 1 && single !== undefined) return single;
  if (only === undefined) return refuse(`there is no file of ${name} (${extensions.join(", ")}) in the artefact`);
  return found.length === 1 ? only : refuse(`which file is the model? There are ${found.slice(0, 5).join(", ")}`);
}

function inside(folder: string, file: string): string {
  return file === "" ? folder : `${folder}/${file}`;
}

function generated(
  request: MlserverRequest,
  format: Format,
  file: string,
  links: readonly Entry[],
  version: number | undefined,
  schema: Schema | undefined,
): Plan {
  // To MLServer it would be another model.
  if (links.some(({ to }) => to.endsWith(`/${settingsName}`))) return refuse(`there is a ${settingsName} deep in the artefact`);
  const settings = {
    name: request.serverName,
    implementation: format.implementation,
    ...schema,
    parameters: { uri: inside(request.folder, file), ...(version === undefined ? {} : { version: `${version}` }) },
  };
  return { kind: "ok", entries: [...links, settingsEntry(settings)] };
}

function authored(
  request: MlserverRequest,
  format: Format | undefined,
  base: string,
  files: readonly string[],
  version: number | undefined,
  schema: Schema | undefined,
): Plan {
  const text = request.artefact.texts.get(base + settingsName);
  if (text === undefined) return refuse(`${settingsName} is too large`);
  const parsed = parseSettings(text);
  if (parsed.kind === "refused") return parsed;
  const { parameters = {}, implementation = format?.implementation, ...rest } = parsed.settings;
  if (implementation === undefined) {
    return refuse(`${settingsName} names no implementation, and MLServer has none for the format ${request.format}`);
  }
  const relative = parseInnerPath(parameters.uri ?? "");
  if (relative === undefined) return refuse(`the uri in ${settingsName} must be a path inside the artefact`);
  if (/^[a-z][a-z0-9+.-]*:/i.test(relative)) return refuse(`the uri in ${settingsName} must be a path, not an address`);
  if (relative !== "" && !files.some((file) => file === relative || file.startsWith(`${relative}/`))) {
    return refuse(`the uri in ${settingsName} names ${relative.slice(0, 100)}, which is not in the artefact`);
  }
  const given = version === undefined || parameters["version"] !== undefined ? {} : { version: `${version}` };
  const rewritten = {
    ...rest,
    name: request.serverName,
    implementation,
    ...schema,
    parameters: { ...parameters, ...given, uri: inside(request.folder, relative) },
  };
  const others = files.filter((file) => file !== settingsName).map((file) => link(base + file, file));
  // A settings file further down would be another model to MLServer.
  const nested = files.find((file) => file.endsWith(`/${settingsName}`));
  if (nested !== undefined) return refuse(`there is more than one ${settingsName} in the artefact`);
  return { kind: "ok", entries: [...others, settingsEntry(rewritten)] };
}

function parseSettings(text: string): { readonly kind: "ok"; readonly settings: z.output<typeof settingsSchema> } | Refused {
  try {
    const parsed = settingsSchema.safeParse(JSON.parse(text));
    if (parsed.success) return { kind: "ok", settings: parsed.data };
    const issue = parsed.error.issues[0];
    return refuse(`${settingsName} is wrong at ${issue?.path.join(".") || "its top"}: ${issue?.message ?? "another form"}`);
  } catch {
    return refuse(`${settingsName} is no JSON`);
  }
}

function settingsEntry(settings: unknown): { readonly kind: "text"; readonly to: string; readonly text: string } {
  return { kind: "text", to: settingsName, text: `${JSON.stringify(settings, null, 2)}\n` };
}
