// Owns where in an artefact a LoRA adapter lies: the folder of adapter_config.json. Pure.
import { enter } from "./folders.ts";
import { type LayoutRequest, type Refused, refuse } from "./plan.ts";

const configName = "adapter_config.json";
const weights = ["adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt"];

export function findLora({ artefact }: LayoutRequest): { readonly kind: "ok"; readonly folder: string } | Refused {
  if (artefact.kind === "file") return refuse(`a LoRA adapter is a folder with ${configName}, not the file ${artefact.name}`);
  const { base, files } = enter(artefact, new Set(), (names) => names.has(configName));
  if (!files.includes(configName)) return refuse(`there is no ${configName} in the artefact`);
  if (!weights.some((file) => files.includes(file))) return refuse(`there is none of ${weights.join(", ")} beside ${configName}`);
  return { kind: "ok", folder: base.replace(/\/$/, "") };
}
