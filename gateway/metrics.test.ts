import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "#platform/log.ts";
import { createGatewayMetrics, createModelCounter, gatewayDefinitions } from "./metrics.ts";

/** What a counter by model says, by model. */
async function counted(metrics: ReturnType<typeof createGatewayMetrics>): Promise<Readonly<Record<string, number>>> {
  const text = await metrics.render("text");
  const found = text.matchAll(/^warmpath_model_requests_total\{model="([^"]*)"\} (\d+)$/gm);
  return Object.fromEntries(Array.from(found, ([, model, value]) => [model, Number(value)]));
}

test("requests are counted for so many models and no more; the rest go together, whatever clients call them", async () => {
  const metrics = createGatewayMetrics({ log: silentLog });
  const counter = createModelCounter(metrics, 2);
  for (const model of ["a", "b", "c", "d", "a"]) counter.add(model, 1);
  for (const odd of ["~other", 'x"} 1\nevil', "a b", ""]) counter.add(odd, 1);
  assert.deepEqual(await counted(metrics), { a: 2, b: 1, "~other": 6 });
  // One that is not registered any more leaves its place to another.
  counter.forget("a");
  counter.add("c", 5);
  assert.deepEqual(await counted(metrics), { b: 1, c: 5, "~other": 6 });
});

test("without --model-metrics no model has a series of its own", async () => {
  const metrics = createGatewayMetrics({ log: silentLog });
  const counter = createModelCounter(metrics, 0);
  for (let at = 0; at < 100; at++) counter.add(`m${at}`, 1);
  assert.deepEqual(await counted(metrics), {});
});

test("under ModelMesh's names only where they are asked for, and with the same values in its units", async () => {
  const [plain, both] = [false, true].map((aliases) => createGatewayMetrics({ log: silentLog, aliases }));
  for (const metrics of [plain!, both!]) metrics.of.models.set({}, 7);
  assert.doesNotMatch(await plain!.render("text"), /modelmesh_/);
  const text = await both!.render("text");
  assert.match(text, /^modelmesh_models_managed_total 7$/m);
  const aliases = Object.values(gatewayDefinitions).flatMap((definition) =>
    "alias" in definition && definition.alias ? [definition.alias] : [],
  );
  assert.ok(aliases.length >= 3);
  for (const { name } of aliases) assert.ok(text.includes(`# TYPE ${name} `), name);
});
