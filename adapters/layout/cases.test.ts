// Holds every layout to its golden files: testdata/SERVER/CASE.json is an artefact, CASE.golden the tree it becomes.
// UPDATE_GOLDENS=1 writes them anew.
import assert from "node:assert/strict";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, test } from "node:test";
import { layoutMlserver } from "./mlserver.ts";
import { layoutOvms } from "./ovms.ts";
import { checkPlan, describePlan, type LayoutRequest, type Plan } from "./plan.ts";
import { layoutTorchserve } from "./torchserve.ts";
import { layoutTriton } from "./triton.ts";

interface Case {
  readonly format: string;
  readonly schemaPath?: string;
  /** Of an artefact that is one file. */
  readonly file?: string;
  /** Of a folder: each file, with its text where a layout reads it. */
  readonly folder?: Readonly<Record<string, string | null>>;
}

const layouts: Readonly<Record<string, (request: LayoutRequest) => Plan>> = {
  triton: layoutTriton,
  ovms: layoutOvms,
  torchserve: (request) => layoutTorchserve(request, "fraud~2.mar"),
  mlserver: (request) => layoutMlserver({ ...request, serverName: "fraud~2", folder: "/held/fraud~2" }),
};

const testdata = join(import.meta.dirname, "testdata");
const cases = globSync("*/*.json", { cwd: testdata }).sort();

describe("layouts", () => {
  test("have cases", () => assert.ok(cases.length > 60, `${cases.length}`));

  for (const file of cases) {
    test(file.replace(/\.json$/, ""), () => {
      const { format, schemaPath, file: single, folder = {} }: Case = JSON.parse(readFileSync(join(testdata, file), "utf8"));
      const texts = Object.entries(folder).filter((entry): entry is [string, string] => entry[1] !== null);
      const artefact =
        single === undefined
          ? { kind: "folder" as const, name: "artefact", files: Object.keys(folder).sort(), texts: new Map(texts) }
          : { kind: "file" as const, name: single, files: [single], texts: new Map<string, string>() };
      const layout = layouts[dirname(file)];
      assert.ok(layout, `there is no layout ${dirname(file)}`);
      const plan = checkPlan(layout({ artefact, format, ...(schemaPath === undefined ? {} : { schemaPath }) }));
      const golden = join(testdata, dirname(file), `${basename(file, ".json")}.golden`);
      if (process.env["UPDATE_GOLDENS"] !== undefined) writeFileSync(golden, describePlan(plan));
      assert.equal(describePlan(plan), readFileSync(golden, "utf8"));
      if (plan.kind === "refused") return;
      for (const entry of plan.entries) {
        assert.ok(!entry.to.startsWith("/") && !entry.to.split("/").includes(".."), entry.to);
        if (entry.kind === "link") assert.ok(artefact.files.includes(entry.from), entry.from);
      }
    });
  }
});
