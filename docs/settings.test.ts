// docs/settings.md is held to the definitions of options, and to the chart. No option is without words.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { adapterFlags } from "#adapters/options.ts";
import { bootstrapFlags } from "#cli/services/bootstrap.ts";
import { controllerFlags } from "#controller/options.ts";
import { gatewayOptions } from "#gateway/options.ts";
import { listFlags } from "#platform/config.ts";
import { serverFlags } from "#runtimes/onnx/flags.ts";
import { holdToEnd } from "./generated.ts";
import { describeProcesses, describeValues } from "./settings.ts";

const chart = new URL("../charts/warmpath/", import.meta.url);

const processes = [
  { name: "gateway", says: "One beside each Envoy.", flags: listFlags(gatewayOptions) },
  { name: "adapter", says: "One beside each model server.", flags: listFlags(adapterFlags) },
  { name: "controller", says: "In a cluster, one for a namespace.", flags: listFlags(controllerFlags) },
  { name: "onnx", says: "The built-in model server.", flags: listFlags(serverFlags) },
  { name: "envoy-bootstrap", says: "Writes what an Envoy starts with.", flags: listFlags(bootstrapFlags) },
];

test("every option says what it is for", () => {
  for (const { name, flags } of processes) {
    assert.deepEqual(
      flags.filter(({ says }) => says === "").map(({ flag }) => `${name} ${flag}`),
      [],
    );
  }
});

test("docs/settings.md is what the definitions say", () => {
  const schema = JSON.parse(readFileSync(new URL("values.schema.json", chart), "utf8")) as Parameters<typeof describeValues>[0];
  const values = describeValues(schema, readFileSync(new URL("values.yaml", chart), "utf8"));
  holdToEnd("settings.md", "<!-- settings -->", `${describeProcesses(processes)}\n${values}`);
});
