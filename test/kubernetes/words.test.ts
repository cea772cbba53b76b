// What kubectl says of our kinds by itself: columns, short names and categories as users of the predecessor know them, and a
// text for each field.
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parse } from "yaml";
import { record } from "#controller/engine/objects.ts";
import { type ControlPlane, openControlPlane } from "./harness/controlplane.ts";
import { applyCrds, chartFolder } from "./harness/crds.ts";
import { buildInferenceService, buildPredictor, onnxRuntime } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;

interface Schema {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema | boolean;
}

interface Definition {
  readonly spec: {
    readonly names: { readonly plural: string };
    readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[];
  };
}

const definitions = globSync("crds/*.yaml", { cwd: chartFolder }).map(
  (file): Definition => parse(readFileSync(join(chartFolder, file), "utf8")),
);

function wordless({ properties = {}, items, additionalProperties }: Schema, at: string): readonly string[] {
  const inner = typeof additionalProperties === "object" ? additionalProperties : undefined;
  return [
    ...Object.entries(properties).flatMap(([name, schema]) => [
      ...(schema.description === undefined ? [`${at}.${name}`] : []),
      ...wordless(schema, `${at}.${name}`),
    ]),
    ...(items === undefined ? [] : wordless(items, `${at}[]`)),
    ...(inner === undefined ? [] : wordless(inner, `${at}{}`)),
  ];
}

for (const { spec } of definitions) {
  test(`${spec.names.plural}: each field says what it is`, () => {
    assert.deepEqual(
      // What every object has is described by the API server.
      spec.versions
        .flatMap(({ schema }) => wordless(schema.openAPIV3Schema, ""))
        .filter((field) => ![".apiVersion", ".kind", ".metadata"].includes(field)),
      [],
    );
  });
}

describe("kubectl", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let plane: ControlPlane;

  before(async () => {
    plane = stack.use(await openControlPlane());
    await applyCrds(plane.kubectl);
    await plane.kubectl.apply(onnxRuntime());
    await plane.kubectl.apply(JSON.stringify({ ...record(JSON.parse(onnxRuntime())), kind: "ClusterServingRuntime" }));
    await plane.kubectl.apply(buildInferenceService("iris", "s3://models/iris"));
    await plane.kubectl.apply(buildPredictor("wine", { storage: { path: "wine" } }));
  });
  after(() => stack.disposeAsync());

  const columns = async (...args: readonly string[]): Promise<readonly string[]> =>
    (await plane.kubectl("get", ...args))
      .split("\n", 1)[0]
      ?.split(/ {2,}/)
      .map((each) => each.trim()) ?? [];

  test("shows the columns that users know, by the names that they know", async () => {
    assert.deepEqual(await columns("isvc"), ["NAME", "URL", "READY", "AGE"]);
    const states = ["TYPE", "AVAILABLE", "ACTIVEMODEL", "TARGETMODEL", "TRANSITION", "AGE"];
    assert.deepEqual(await columns("predictors"), ["NAME", ...states]);
    for (const kind of ["servingruntimes", "srt", "clusterservingruntimes", "csrt"]) {
      const seen = await columns(kind);
      for (const column of ["NAME", "DISABLED", "MODELTYPE", "CONTAINERS", "AGE"])
        assert.ok(seen.includes(column), `${kind}: ${seen.join()}`);
    }
  });

  test("finds all of them by their category, and explains each field", async () => {
    const names = await plane.kubectl("get", "warmpath", "--output", "name");
    for (const name of [
      "servingruntime.serving.kserve.io/onnx",
      "clusterservingruntime.serving.kserve.io/onnx",
      "inferenceservice.serving.kserve.io/iris",
      "predictor.serving.kserve.io/wine",
    ])
      assert.ok(names.includes(name), names);
    for (const [field, says] of [
      ["isvc.spec.predictor.model.storageUri", /pvc:\/\//],
      ["predictor.spec.storage.key", /entry/],
      ["servingruntime.spec.builtInAdapter.serverType", /mlserver/],
      ["models.warmpath.dev.spec.split.percent", /percent/],
    ] as const)
      assert.match(await plane.kubectl("explain", field), says, field);
  });
});
