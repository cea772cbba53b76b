// Owns the way from a command line to a running command: checks, set-up of what the command needs, hand-over.
import { join } from "node:path";
import { checkMachine, checkTools } from "./checks.mjs";
import { exitWith, Interrupted, runForeground } from "./child.mjs";
import { envoyBinary, envoyIsThere, fetchEnvoy } from "./envoy.mjs";
import { SetupError } from "./errors.mjs";
import { buildLibrary, libraryFolder, libraryIsThere } from "./library.mjs";
import { holdLock } from "./lock.mjs";
import { installPackages, packagesAreThere, pinnedNode } from "./packages.mjs";
import { createProgress } from "./progress.mjs";
import { root } from "./root.mjs";
import { cacheFolder } from "./wheels.mjs";

/**
 * What a command runs, and what must be there for it.
 * @typedef {{ entry: string, args?: string[], dev: boolean, serves: boolean }} Command
 * @type {Record<string, Command>}
 */
const commands = {
  up: { entry: "cli/main.ts", args: ["up"], dev: false, serves: true },
  bench: { entry: "bench/main.ts", dev: true, serves: true },
  test: { entry: "test/runner/main.ts", dev: true, serves: true },
  check: { entry: "cli/setup/check.mjs", dev: true, serves: false },
  docs: { entry: "docs/site/main.ts", dev: true, serves: false },
  sbom: { entry: "cli/setup/sbom.mjs", dev: false, serves: false },
  proto: { entry: "proto/generate.mjs", dev: true, serves: false },
};

/** Anything else is the command line of cli/main.ts itself, such as `--help`. */
function findCommand(args) {
  const named = Object.hasOwn(commands, args[0] ?? "") ? commands[args[0]] : undefined;
  return named === undefined
    ? { entry: "cli/main.ts", args, dev: false, serves: false }
    : { ...named, args: [...(named.args ?? []), ...args.slice(1)] };
}

/** @param {string[]} args */
export async function start(args) {
  try {
    const command = findCommand(args);
    const asksHelp = command.args.includes("--help") || command.args.includes("-h");
    const env = await prepare({ dev: command.dev, serves: command.serves && !asksHelp }, args.includes("--json"));
    exitWith(await runForeground(pinnedNode(), [join(root, command.entry), ...command.args], env));
  } catch (error) {
    if (error instanceof Interrupted) exitWith({ code: null, signal: error.signal });
    console.error(error instanceof SetupError ? error.message : error);
    process.exit(1);
  }
}

/** Makes everything that is needed be there; returns the environment that tells the command where. */
async function prepare(needs, silent) {
  checkMachine();
  const library = needs.serves ? libraryFolder() : "";
  const missing = () => [
    ...(packagesAreThere(needs.dev) ? [] : [{ name: "packages", seconds: 20, run: () => installPackages(needs.dev) }]),
    ...(needs.serves && !envoyIsThere() ? [{ name: "Envoy", seconds: 8, run: () => fetchEnvoy() }] : []),
    ...(needs.serves && !libraryIsThere(library)
      ? [{ name: "model library", seconds: 20, run: (report) => buildLibrary(library, report) }]
      : []),
  ];
  if (missing().length > 0) {
    checkTools();
    const lock = await holdLock(
      (pid) => silent || console.error(`Waiting for another set-up of this checkout (process ${pid}) ...`),
    );
    // Another launch may have done it all while this one waited.
    const progress = createProgress(missing(), silent);
    try {
      await progress.runAll();
    } finally {
      progress.end();
      lock.release();
    }
  }
  // Node keeps there what it has compiled: every process starts in half the time.
  // ONNX Runtime, which tests load too, is not to tell its maker of its use.
  const env = {
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(cacheFolder(), "compiled"),
    ORT_DISABLE_TELEMETRY: "1",
  };
  return needs.serves ? { ...env, WARMPATH_ENVOY: envoyBinary(), WARMPATH_LIBRARY: library } : env;
}
