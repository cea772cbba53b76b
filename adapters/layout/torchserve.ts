// Owns how artefacts are laid out for TorchServe: one model archive in its model store. Pure.
import { extensionOf } from "./folders.ts";
import { type LayoutRequest, link, type Plan, refuse } from "./plan.ts";

const archive = ".mar";

/** The store is flat: the archive's name is the model's. */
export function layoutTorchserve({ artefact, format }: LayoutRequest, archiveName: string): Plan {
  if (format !== "pytorch-mar" && format !== "torchserve") return refuse(`TorchServe has no format ${format}, only pytorch-mar`);
  const found = artefact.files.filter((file) => extensionOf(file) === archive);
  const [only] = found;
  if (artefact.kind === "file" || only === undefined) {
    if (artefact.kind === "folder") return refuse(`there is no model archive (${archive}) in the artefact`);
    // Signed addresses and the like leave a file without its extension.
    return { kind: "ok", entries: [link(artefact.name, archiveName)] };
  }
  if (found.length > 1) return refuse(`which file is the model? There are ${found.slice(0, 5).join(", ")}`);
  return { kind: "ok", entries: [link(only, archiveName)] };
}
