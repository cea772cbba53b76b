// Holds the driver of TorchServe to the contract, over a server scripted from its documents.
import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "#platform/clock.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { openScripted, type Script } from "../testing/scripted.ts";
import { createForeignDriver } from "./foreign.ts";
import { createRecord } from "./record.ts";
import { type DriverHarness, describeDriver } from "./suite.ts";
import { createTorchserve } from "./torchserve.ts";

function scriptOf(store: string): Script {
  return ({ method, path, query }, held) => {
    const name = /^\/models\/([^/]+)$/.exec(path)?.[1];
    if (path === "/models" && method === "GET") {
      const from = Number(query.get("next_page_token") ?? 0);
      const limit = Number(query.get("limit") ?? 100);
      const models = [...held.keys()].slice(from, from + limit).map((modelName) => ({ modelName, modelUrl: `${modelName}.mar` }));
      return { status: 200, body: { models, ...(held.size > from + limit ? { nextPageToken: `${from + limit}` } : {}) } };
    }
    if (path === "/models" && method === "POST") {
      const archive = join(store, query.get("url") ?? "");
      const model = query.get("model_name") ?? "";
      if (held.has(model))
        return { status: 409, body: { code: 409, type: "ConflictStatusException", message: "already registered" } };
      const fail = (code: number, message: string): ReturnType<Script> => ({ status: code, body: { code, message } });
      if (!existsSync(archive)) return fail(404, "Model not found in model store");
      held.set(model, archive);
      const text = readFileSync(archive, "utf8");
      if (text === "large") return fail(500, "Failed to start workers: torch.OutOfMemoryError: out of memory");
      if (text !== "good") return fail(500, `Failed to start workers for model ${model} version: 1.0`);
      return { status: 200, body: { status: `Model "${model}" Version: 1.0 registered with 1 initial workers` } };
    }
    if (name === undefined || !held.has(name)) return { status: 404, body: { code: 404, message: `Model not found: ${name}` } };
    if (method === "DELETE") {
      held.delete(name);
      return { status: 200, body: { status: `Model "${name}" unregistered` } };
    }
    const workers = [{ id: "9000", status: "READY", memoryUsage: 89_247_744 }];
    return { status: 200, body: [{ modelName: name, modelVersion: "1.0", workers }] };
  };
}

async function openHarness(): Promise<DriverHarness> {
  const folder = await openRunFolder();
  const at = (...names: string[]): string => join(folder.path, ...names);
  for (const name of ["good", "broken", "large"]) await writeFile(at(`${name}.mar`), name);
  const store = at("store");
  const server = await openScripted(scriptOf(store));
  return {
    openDriver: () =>
      createForeignDriver(createTorchserve({ address: server.address, store }), createRecord(at("copies")), {
        clock: systemClock,
      }),
    format: "pytorch-mar",
    goodPath: at("good.mar"),
    brokenPath: at("broken.mar"),
    absentPath: at("absent.mar"),
    exhaustingPath: at("large.mar"),
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

describeDriver("TorchServe (scripted)", openHarness);
