// Holds the driver of OpenAI-style servers with LoRA adapters to the contract, over a server scripted from vLLM's documents.
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "#platform/clock.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { fieldOf, openScripted, type Script } from "../testing/scripted.ts";
import { createForeignDriver } from "./foreign.ts";
import { createOpenaiLora } from "./openailora.ts";
import { createRecord } from "./record.ts";
import { type DriverHarness, describeDriver } from "./suite.ts";

const script: Script = ({ path, body }, held) => {
  const name = String(fieldOf(body, "lora_name"));
  const fail = (status: number, message: string): ReturnType<Script> => ({
    status,
    body: { error: { message, type: "BadRequestError", param: null, code: status } },
  });
  if (path === "/health") return { status: 200, body: "" };
  if (path === "/v1/models") {
    const data = ["base", ...held.keys()].map((id) => ({ id, object: "model" }));
    return { status: 200, body: { object: "list", data } };
  }
  if (path === "/v1/load_lora_adapter") {
    if (held.has(name)) return fail(400, `The lora adapter '${name}' has already been loaded.`);
    const folder = String(fieldOf(body, "lora_path"));
    const text = readFileSync(join(folder, "adapter_config.json"), "utf8");
    if (text === "large") return fail(500, "CUDA out of memory. Tried to allocate 2.00 GiB");
    if (text !== "good") return fail(400, "Loading lora failed: no peft type");
    held.set(name, folder);
    return { status: 200, body: `Success: LoRA adapter '${name}' added successfully.` };
  }
  if (path !== "/v1/unload_lora_adapter") return fail(404, "Not Found");
  if (!held.delete(name)) return fail(404, `The lora adapter '${name}' cannot be found.`);
  return { status: 200, body: `Success: LoRA adapter '${name}' removed successfully.` };
};

async function openHarness(): Promise<DriverHarness> {
  const folder = await openRunFolder();
  const at = (...names: string[]): string => join(folder.path, ...names);
  for (const name of ["good", "broken", "large"]) {
    await mkdir(at(name, "checkpoint"), { recursive: true });
    await writeFile(at(name, "checkpoint", "adapter_config.json"), name);
    await writeFile(at(name, "checkpoint", "adapter_model.safetensors"), "weights");
  }
  const server = await openScripted(script);
  return {
    openDriver: () =>
      createForeignDriver(createOpenaiLora({ address: server.address }), createRecord(at("copies")), { clock: systemClock }),
    format: "lora",
    goodPath: at("good"),
    brokenPath: at("broken"),
    absentPath: at("absent"),
    exhaustingPath: at("large"),
    kill: () => server.kill(),
    revive: () => server.revive(),
    hang: () => server.hang(),
    resume: () => server.resume(),
    forget: async (serverName) => void server.held.delete(serverName),
    async [Symbol.asyncDispose](): Promise<void> {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describeDriver("an OpenAI-style server with LoRA adapters (scripted)", openHarness);
