// What is said of an installation, as a golden (UPDATE_GOLDENS=1 writes it anew).
import assert from "node:assert/strict";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { assert as check, constantFrom, json, property } from "fast-check";
import { parseAllDocuments } from "yaml";
import { storageRules as rules } from "#cli/migrate/rules.ts";
import { checkMigration, describeReport, listObjects } from "./check.ts";

const goldens = join(import.meta.dirname, "goldens");

describe("before a move", () => {
  for (const file of globSync("*.yaml", { cwd: goldens }).sort()) {
    const documents = parseAllDocuments(readFileSync(join(goldens, file), "utf8"));
    const report = checkMigration(
      documents.flatMap((document) => listObjects("toJS" in document ? document.toJS() : undefined)),
      rules,
    );

    test(`${file}: each object is told what becomes of it`, () => {
      const text = `${describeReport(report)}\n`;
      const golden = join(goldens, file.replace(".yaml", ".golden.txt"));
      if (process.env["UPDATE_GOLDENS"] !== undefined) writeFileSync(golden, text);
      assert.equal(text, readFileSync(golden, "utf8"));
    });

    test(`${file}: no value of a secret is repeated`, () => {
      assert.doesNotMatch(JSON.stringify(report), /NOT-TO-BE-SEEN/);
    });
  }

  test("nothing to be found is said so", () => {
    assert.equal(describeReport(checkMigration([], rules)), "Nothing of a ModelMesh installation was found.");
  });

  test("whatever is given, it does not fail", () => {
    const kinds = ["InferenceService", "Predictor", "ServingRuntime", "ClusterServingRuntime", "Secret", "ConfigMap"];
    check(
      property(constantFrom(...kinds), json(), json(), (kind, spec, data) => {
        const metadata = {
          name: "storage-config",
          namespace: "a",
          annotations: { "serving.kserve.io/deploymentMode": "ModelMesh" },
        };
        checkMigration(
          [{ kind, metadata, spec: JSON.parse(spec) as unknown, data: JSON.parse(data) as unknown }, JSON.parse(spec)],
          rules,
        );
      }),
    );
  });
});
