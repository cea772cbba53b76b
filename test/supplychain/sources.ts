// Owns where dependencies are written down, and what the installed ones say of themselves, where they are installed.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { cacheFolder } from "../../cli/setup/wheels.mjs";

const root = new URL("../..", import.meta.url).pathname;

const lock = z.object({
  packages: z.record(
    z.string(),
    z.looseObject({
      version: z.string().optional(),
      license: z.string().optional(),
      integrity: z.string().optional(),
      dev: z.boolean().optional(),
      hasInstallScript: z.boolean().optional(),
    }),
  ),
});

export interface NpmPackage {
  /** In node_modules. */
  readonly path: string;
  readonly name: string;
  readonly version: string;
  readonly licence: string | undefined;
  readonly integrity: string | undefined;
  readonly dev: boolean;
  readonly hasInstallScript: boolean;
}

/** Files of this kind in the repository, what is installed left out. */
export function findFiles(name: RegExp, folder = ""): readonly string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.name === "node_modules" || entry.name.startsWith(".")) return [];
    if (entry.isDirectory()) return findFiles(name, path);
    return name.test(entry.name) ? [path] : [];
  });
}

export function readText(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

export function npmPackages(lockFile: string): readonly NpmPackage[] {
  const { packages } = lock.parse(JSON.parse(readText(lockFile)));
  return Object.entries(packages).flatMap(([path, each]) => {
    if (path === "") return [];
    const { version = "", license: licence, integrity, hasInstallScript = false } = each;
    const dev = each.dev === true;
    return [{ path, name: path.replace(/^.*node_modules\//, ""), version, licence, integrity, dev, hasInstallScript }];
  });
}

/** `name==version` of all requirement files. */
export function pythonPackages(): readonly string[] {
  const files = findFiles(/^.+\.txt$/).filter((file) => file.startsWith("test/"));
  const lines = files.flatMap((file) => readText(file).split("\n"));
  return [...new Set(lines.map((line) => line.replace(/[ ;#].*$/, "").trim()).filter((line) => line !== ""))].toSorted(inOrder);
}

/** `module@version` of all go.mod files, replacements applied. */
export function goModules(): readonly string[] {
  const found = new Set<string>();
  for (const file of findFiles(/^go\.mod$/)) {
    const text = readText(file);
    const replaced = new Map(
      Array.from(text.matchAll(/^\s*(\S+) => (\S+) (v\S+)/gm), ([, from, to, version]) => [from, `${to}@${version}`]),
    );
    for (const [, name = "", version = ""] of text.matchAll(
      /^(?:require )?\s*([a-z0-9.-]+\.[a-z]+\/\S+|[a-z.]+\.[a-z]+) (v\S+)/gm,
    )) {
      found.add(replaced.get(name) ?? `${name}@${version}`);
    }
  }
  return [...found].toSorted(inOrder);
}

export function inOrder(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** What the metadata of installed Python packages say, as far as they are installed: `name==version` to their words. */
export function installedPython(): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  if (!existsSync(cacheFolder())) return found;
  for (const environment of readdirSync(cacheFolder())) {
    const folders = [join(cacheFolder(), environment), ...sitePackages(join(cacheFolder(), environment, "lib"))];
    for (const folder of folders) {
      if (!existsSync(folder) || !statSync(folder).isDirectory()) continue;
      for (const info of readdirSync(folder).filter((name) => name.endsWith(".dist-info"))) {
        const file = join(folder, info, "METADATA");
        if (existsSync(file)) addMetadata(found, readFileSync(file, "utf8"));
      }
    }
  }
  return found;
}

function sitePackages(lib: string): readonly string[] {
  if (!existsSync(lib)) return [];
  return readdirSync(lib).map((python) => join(lib, python, "site-packages"));
}

function addMetadata(found: Map<string, string>, text: string): void {
  const head = text.split(/\r?\n\r?\n/, 1)[0] ?? "";
  const field = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, "m").exec(head)?.[1]?.trim();
  const classifiers = Array.from(head.matchAll(/^Classifier: License :: (?:OSI Approved :: )?(.*)$/gm), ([, of = ""]) =>
    of.trim(),
  );
  const words = field("License-Expression") ?? (classifiers.length > 0 ? classifiers.join(" OR ") : field("License"));
  found.set(pythonName(`${field("Name")}==${field("Version")}`), words ?? "");
}

/** The index treats `-`, `_` and `.` alike, and does not tell cases apart. */
export function pythonName(requirement: string): string {
  const [name = "", version = ""] = requirement.split("==");
  return `${name
    .replace(/\[.*\]$/, "")
    .toLowerCase()
    .replaceAll(/[-_.]+/g, "-")}==${version}`;
}

/** By its own licence file, where Go has fetched it. */
export function goLicence(module: string): string | undefined {
  const [name = "", version = ""] = module.split("@");
  const escaped = (text: string): string => text.replaceAll(/[A-Z]/g, (letter) => `!${letter.toLowerCase()}`);
  const cache =
    process.env["GOMODCACHE"] ?? join(process.env["GOPATH"] ?? join(process.env["HOME"] ?? "/root", "go"), "pkg", "mod");
  const folder = join(cache, `${escaped(name)}@${escaped(version)}`);
  if (!existsSync(folder)) return undefined;
  const file = readdirSync(folder)
    .toSorted(inOrder)
    .find((each) => /^(licen[cs]e|copying)/i.test(each));
  return file === undefined ? undefined : licenceOfText(readFileSync(join(folder, file), "utf8"));
}

function licenceOfText(text: string): string | undefined {
  const words = text.replaceAll(/\s+/g, " ");
  if (words.includes("Mozilla Public License")) return "MPL-2.0";
  if (words.includes("Apache License") && words.includes("Version 2.0")) return "Apache-2.0";
  if (words.includes("Permission is hereby granted, free of charge")) return "MIT";
  if (words.includes("Permission to use, copy, modify, and")) return "ISC";
  if (!words.includes("Redistribution and use in source and binary forms")) return undefined;
  return /endorse or promote/.test(words) ? "BSD-3-Clause" : "BSD-2-Clause";
}
