// Owns Prometheus' own judgement of scrapes, alert rules and expressions: a program of the packages that promtool is made of,
// built once into the cache. To fetch and build it takes a minute of one core.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { goBuild, goVersion } from "./go.ts";
import { keep } from "./kept.ts";

const source = fileURLToPath(new URL("../prometheus/", import.meta.url));

/** Why it cannot judge here, in one sentence; undefined when it can. */
export function whyNoPromtool(): string | undefined {
  return goVersion() === undefined ? "Go is missing: install it to have Prometheus' own packages judge" : undefined;
}

/** What is wrong with a scrape in the text format, one line for each. */
export async function lintScrape(text: string): Promise<readonly string[]> {
  return await check(["metrics"], text);
}

export async function checkRules(file: string): Promise<readonly string[]> {
  return await check(["rules", file]);
}

/** Each a line. */
export async function checkExpressions(expressions: readonly string[]): Promise<readonly string[]> {
  return await check(["expressions"], expressions.join("\n"));
}

async function check(args: readonly string[], input = ""): Promise<readonly string[]> {
  const { status, stdout, stderr } = spawnSync(await findProgram(), args, { input, encoding: "utf8" });
  if (status !== 0) throw new Error(`the check of ${args[0]} ended with ${status}: ${stderr}`);
  return stdout.split("\n").filter((line) => line !== "");
}

async function findProgram(): Promise<string> {
  const files = ["go.mod", "go.sum", "main.go"].map((name) => readFileSync(join(source, name)));
  const folder = await keep("promtool", Buffer.concat([...files, Buffer.from(goVersion() ?? "")]), async (folder) => {
    await goBuild(source, ["-o", join(folder, "check"), "."]);
  });
  return join(folder, "check");
}
