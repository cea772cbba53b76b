// Owns running the naming scripts in LuaJIT, which is what Envoy runs them in.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { openRunFolder } from "#platform/tempdir.ts";
import { environmentPython } from "../harness/python.ts";

export type Script = "http" | "grpc";

export interface LuaCase {
  readonly script: Script;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Of the route that is found for the name. */
  readonly slot?: string | undefined;
}

export interface LuaResult {
  /** False: the script failed, with this body as the reason. */
  readonly ok: boolean;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

const here = (name: string): string => new URL(name, import.meta.url).pathname;
/** As envoy/listeners.ts puts them together. */
const parts: Readonly<Record<Script, readonly string[]>> = {
  http: ["json.lua", "naming-http.lua"],
  grpc: ["message.lua", "frames.lua", "agree.lua", "naming-grpc.lua"],
};
const result = z.object({ ok: z.boolean(), headers: z.record(z.string(), z.string()), body: z.string() });

export async function runScripts(cases: readonly LuaCase[]): Promise<readonly LuaResult[]> {
  await using folder = await openRunFolder();
  const python = await environmentPython("lua", here("lua.txt"));
  const scripts = await Promise.all(
    Object.entries(parts).map(async ([name, files]) => {
      const file = join(folder.path, `${name}.lua`);
      await writeFile(file, files.map((each) => readFileSync(here(`../../envoy/${each}`), "utf8")).join("\n"));
      return `${name}=${file}`;
    }),
  );
  const child = spawn(python, [here("naming.py"), here("naming.lua"), ...scripts], { stdio: ["pipe", "pipe", "inherit"] });
  const closed = once(child, "close");
  const results: LuaResult[] = [];
  const lines = createInterface({ input: child.stdout });
  const read = (async () => {
    for await (const line of lines) {
      const { body, ...rest } = result.parse(JSON.parse(line));
      results.push({ ...rest, body: Buffer.from(body, "base64") });
    }
  })();
  for (const { body, ...rest } of cases) {
    if (!child.stdin.write(`${JSON.stringify({ ...rest, body: Buffer.from(body).toString("base64") })}\n`))
      await once(child.stdin, "drain");
  }
  child.stdin.end();
  await read;
  const [code] = await closed;
  if (code !== 0 || results.length !== cases.length)
    throw new Error(`${results.length} of ${cases.length} cases were run; it ended with ${code}`);
  return results;
}
