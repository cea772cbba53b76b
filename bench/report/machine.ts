// Owns what a result says of where it was measured, and of what.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem, type } from "node:os";
import { fileURLToPath } from "node:url";
import type { Machine } from "./results.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

export function describeMachine(): Machine {
  const all = cpus();
  return {
    processor: (all[0]?.model ?? "unknown").trim(),
    processors: all.length,
    memoryBytes: totalmem(),
    // What a vendor appends says nothing of speed.
    system: `${type()} ${/^\d+(?:\.\d+)*/.exec(release())?.[0] ?? release()}`,
    load: Math.round((loadavg()[0] ?? 0) * 100) / 100,
  };
}

export function readVersions(envoyBinary: string): Readonly<Record<string, string>> {
  const { version, dependencies } = readPackage();
  return {
    warmpath: `${version}${commit()}`,
    node: process.versions.node,
    envoy: /version: [0-9a-f]+\/([^/]+)/.exec(run(envoyBinary, ["--version"]))?.[1] ?? "unknown",
    "onnxruntime-node": dependencies["onnxruntime-node"] ?? "unknown",
  };
}

function readPackage(): { readonly version: string; readonly dependencies: Readonly<Record<string, string>> } {
  const json: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  const { version, dependencies } = json as { version: string; dependencies: Record<string, string> };
  return { version, dependencies };
}

/** Of a checkout; nothing elsewhere. */
function commit(): string {
  const id = run("git", ["-C", root, "rev-parse", "--short=10", "HEAD"]).trim();
  if (id === "") return "";
  // What the report itself writes is no change of what is measured.
  const paths = ["--", ".", ":!docs/measured.json", ":!README.md"];
  const changed = run("git", ["-C", root, "status", "--porcelain", "--untracked-files=no", ...paths]).trim() !== "";
  return ` (${id}${changed ? " and changes" : ""})`;
}

function run(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, [...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return "";
  }
}
