// What Warmpath is made of, and what tests it, is under licences that let it be given away under Apache-2.0. Of npm's packages
// the lock file tells; of Python's and Go's a list is kept here, held to what the installed ones say of themselves. The list
// is made anew from these with UPDATE_LICENCES=1.
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { z } from "zod";
import { etcdWheel } from "../../cli/setup/etcd.mjs";
import { wheels } from "../../cli/setup/wheels.mjs";
import { identifiersNeeded, mayShip, mayTest } from "./policy.ts";
import {
  findFiles,
  goLicence,
  goModules,
  inOrder,
  installedPython,
  npmPackages,
  pythonName,
  pythonPackages,
  readText,
} from "./sources.ts";

const recordFile = new URL("licences.json", import.meta.url);
const licences = z.record(z.string(), z.string());
const recorded = z.object({ python: licences, go: licences });
const update = process.env["UPDATE_LICENCES"] === "1";

const known = recorded.parse(existsSync(recordFile) ? JSON.parse(readFileSync(recordFile, "utf8")) : { python: {}, go: {} });

/** Words of older metadata; `BSD License` says not which, and both are fine. */
const words: readonly (readonly [RegExp, string])[] = [
  [/^(3-Clause BSD License|BSD License|BSD)$/i, "BSD-3-Clause"],
  [/^(Apache Software License|Apache License (Version )?2\.0|Apache 2\.0)$/i, "Apache-2.0"],
  [/^MIT (License|style)$/i, "MIT"],
  [/^Python Software Foundation License$/i, "PSF-2.0"],
  [/^Mozilla Public License 2\.0 \(MPL 2\.0\)$/i, "MPL-2.0"],
  [/^GNU General Public License v2 \(GPLv2\)$/i, "GPL-2.0-only"],
  [/^GNU Lesser General Public License v3 \(LGPLv3\)$/i, "LGPL-3.0-only"],
];

function asExpression(told: string): string {
  const one = (text: string): string => words.find(([form]) => form.test(text))?.[1] ?? text;
  return told.includes(" OR ") ? told.split(" OR ").map(one).join(" OR ") : one(told);
}

describe("npm packages", () => {
  for (const file of findFiles(/^package-lock\.json$/)) {
    const packages = npmPackages(file);
    const shipped = file === "package-lock.json" ? packages.filter(({ dev }) => !dev) : [];

    test(`${file}: what is shipped is as free as Warmpath itself, what tests it is free to use`, () => {
      assert.ok(packages.length > 0);
      for (const { name, licence } of packages) {
        const fine =
          licence !== undefined && (shipped.some((each) => each.name === name) ? mayShip(licence) : mayTest(name, licence));
        assert.ok(fine, `${name} is under ${licence ?? "no licence that it tells"}`);
      }
    });

    test(`${file}: each is pinned with its hash`, () => {
      for (const { path, version, integrity } of packages) {
        assert.match(version, /^\d+\.\d+\.\d+/, path);
        assert.match(integrity ?? "", /^sha(512|1)-/, path);
      }
    });
  }

  test("the installed ones say what the lock file says", () => {
    const installed = npmPackages("package-lock.json").filter(({ path }) =>
      existsSync(new URL(`../../${path}/package.json`, import.meta.url)),
    );
    assert.ok(installed.length > 200);
    const own = z.looseObject({ license: z.unknown(), licenses: z.unknown() }).partial();
    for (const { path, licence } of installed) {
      const { license, licenses } = own.parse(JSON.parse(readText(`${path}/package.json`)));
      // Old packages have an object, or a list of them.
      const told = typeof license === "string" ? license : JSON.stringify(license ?? licenses);
      assert.ok(told === licence || told.includes(`"${licence}"`), `${path}: ${told}, and ${licence} in the lock file`);
    }
  });
});

describe("Python packages", () => {
  const told = installedPython();

  test("those that tests install are recorded, and free to use", () => {
    if (update) {
      for (const requirement of pythonPackages()) {
        const said = told.get(pythonName(requirement));
        if (said !== undefined && said !== "") known.python[pythonName(requirement)] = asExpression(said);
      }
    }
    for (const requirement of pythonPackages()) {
      const name = pythonName(requirement);
      const licence = known.python[name];
      assert.ok(licence !== undefined, `${name} is not in licences.json`);
      assert.ok(mayTest(name.split("==")[0] ?? "", licence), `${name} is under ${licence}`);
      assert.match(name, /==\d/, "it is pinned");
    }
  });

  test("the installed ones say what is recorded", () => {
    for (const [name, licence] of Object.entries(known.python)) {
      const said = told.get(name);
      if (said !== undefined && said !== "") assert.equal(asExpression(said), licence, name);
    }
  });

  test("wheels of what runs are as free as Warmpath itself, and each has its hash", () => {
    for (const { name, licence = "", sha256 } of [...Object.values(wheels), etcdWheel]) {
      assert.ok(mayShip(licence), `${name} is under ${licence}`);
      assert.match(sha256, /^[0-9a-f]{64}$/, name);
    }
  });
});

describe("Go modules", () => {
  test("those that test programs are built of are recorded, and free to use", () => {
    const modules = goModules();
    assert.ok(modules.length > 200);
    if (update) {
      for (const module of modules) {
        const licence = goLicence(module);
        if (licence !== undefined) known.go[module] = licence;
      }
    }
    const missing = modules.filter((module) => known.go[module] === undefined);
    assert.deepEqual(missing, []);
    for (const module of modules) assert.ok(mayTest(module, known.go[module] ?? ""), `${module} is under ${known.go[module]}`);
  });

  test("the fetched ones say what is recorded, and each has its hash in go.sum", () => {
    const sums = findFiles(/^go\.sum$/)
      .map(readText)
      .join("\n");
    for (const [module, licence] of Object.entries(known.go)) {
      const said = goLicence(module);
      if (said !== undefined) assert.equal(said, licence, module);
      assert.ok(sums.includes(module.replace("@", " ")), `${module} is in no go.sum`);
    }
  });
});

test("expressions are read as they are meant", () => {
  const accepts = (identifier: string): boolean => identifier === "MIT";
  const cases: readonly (readonly [string, boolean | undefined])[] = [
    ["MIT", true],
    ["GPL-3.0-only", false],
    ["MIT OR GPL-3.0-only", true],
    ["MIT AND GPL-3.0-only", false],
    ["(MIT OR GPL-3.0-only) AND MIT", true],
    ["MIT AND (GPL-3.0-only OR X)", false],
    ["", undefined],
    ["MIT MIT", undefined],
    ["(MIT", undefined],
    ["SEE LICENSE IN file", undefined],
  ];
  for (const [expression, wanted] of cases) assert.equal(identifiersNeeded(expression, accepts), wanted, expression);
  for (const bad of ["GPL-3.0-only", "AGPL-3.0-or-later", "SSPL-1.0", "BUSL-1.1", "UNLICENSED", "MPL-2.0", "CC-BY-NC-4.0"]) {
    assert.ok(!mayShip(bad), bad);
  }
});

test("the record names nothing that is not used any more", () => {
  const used = new Set([...pythonPackages().map(pythonName), ...goModules()]);
  const strays = [...Object.keys(known.python), ...Object.keys(known.go)].filter((name) => !used.has(name));
  if (update) {
    for (const stray of strays) {
      delete known.python[stray];
      delete known.go[stray];
    }
    const sorted = (of: Readonly<Record<string, string>>) =>
      Object.fromEntries(Object.entries(of).toSorted(([a], [b]) => inOrder(a, b)));
    writeFileSync(recordFile, `${JSON.stringify({ python: sorted(known.python), go: sorted(known.go) }, undefined, 2)}\n`);
  } else assert.deepEqual(strays, []);
});
