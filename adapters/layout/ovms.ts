// Owns how artefacts are laid out for OpenVINO Model Server: NAME/VERSION/ with the files of one model. Pure.
// The server loads whatever version folders there are, so only the newest is laid out.
import { enter, extensionOf } from "./folders.ts";
import { type LayoutRequest, link, type Plan, refuse } from "./plan.ts";

/** By what the model's main file ends with, and what must lie beside it. */
const formats: Readonly<Record<string, { readonly main: readonly string[]; readonly beside?: string }>> = {
  openvino_ir: { main: [".xml"], beside: ".bin" },
  openvino: { main: [".xml"], beside: ".bin" },
  onnx: { main: [".onnx"] },
  tensorflow: { main: [".pb"] },
  paddle: { main: [".pdmodel"], beside: ".pdiparams" },
  tflite: { main: [".tflite"] },
};

export function layoutOvms({ artefact, format: name, schemaPath }: LayoutRequest): Plan {
  const format = Object.hasOwn(formats, name) ? formats[name] : undefined;
  if (format === undefined) return refuse(`OpenVINO Model Server has no format ${name}`);
  const mainOf = (files: Iterable<string>): readonly string[] =>
    [...files].filter((file) => !file.includes("/") && format.main.includes(extensionOf(file)));
  if (artefact.kind === "file") {
    if (format.beside !== undefined)
      return refuse(`a ${name} model is a folder with a ${format.main[0]} and a ${format.beside} file`);
    if (mainOf([artefact.name]).length === 0) return refuse(`${artefact.name} is no ${name} model (${format.main.join(", ")})`);
    return { kind: "ok", entries: [link(artefact.name, `1/${artefact.name}`)] };
  }
  const skip = new Set(schemaPath === undefined ? [] : [schemaPath]);
  const { base, files, version = 1 } = enter(artefact, skip, (names) => mainOf(names).length > 0);
  const found = mainOf(files);
  const [main] = found;
  if (main === undefined) return refuse(`there is no file of ${name} (${format.main.join(", ")}) in the artefact`);
  if (found.length > 1) return refuse(`which file is the model? There are ${found.slice(0, 5).join(", ")}`);
  const beside = format.beside === undefined ? undefined : main.replace(/\.[^.]*$/, format.beside);
  if (beside !== undefined && !files.includes(beside)) return refuse(`the weights ${beside} of ${main} are not in the artefact`);
  return { kind: "ok", entries: files.map((file) => link(base + file, `${version}/${file}`)) };
}
