// What a whole fleet tells a scraper: hits as Envoy counted them, misses and loads as they were, errors by code, in a form
// that the reference parsers and the linter accept, and in bounded numbers.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { lintFamilies, type ParsedFamily, parseExposition } from "../harness/exposition.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { lintScrape, whyNoPromtool } from "../harness/promtool.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;
before(async () => {
  fleet = await openFleet({ pods: 2, capacityBytes: 2 * 2 ** 20 });
});
after(() => fleet?.[Symbol.asyncDispose]());

async function scrape(url: string, format: "text" | "openmetrics"): Promise<readonly ParsedFamily[]> {
  const accept = format === "text" ? "text/plain" : "application/openmetrics-text; version=1.0.0";
  const answer = await fetch(`${url}/metrics`, {
    // A connection of its own: one that is kept may be closed the moment it is used again.
    headers: { accept, connection: "close" },
  });
  assert.equal(answer.status, 200);
  return parseExposition(await answer.text(), format);
}

async function adapterUrls(): Promise<readonly string[]> {
  const { json } = await fleet.manage("GET", "/api/v1/scrape-targets");
  const targets = json as readonly { readonly targets: readonly string[]; readonly labels: Readonly<Record<string, string>> }[];
  assert.deepEqual(new Set(targets.map(({ labels }) => labels["pod"])), new Set(["pod-0", "pod-1"]));
  return targets.flatMap(({ targets }) => targets).map((target) => `http://${target}`);
}

function sum(families: readonly ParsedFamily[], name: string, labels: Readonly<Record<string, string>> = {}): number {
  const found = families
    .flatMap(({ samples }) => samples)
    .filter((sample) => sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value));
  assert.ok(found.length > 0, `${name} ${JSON.stringify(labels)} is there`);
  return found.reduce((total, { value }) => total + value, 0);
}

test("before any request everything is there, at 0", async () => {
  const families = await scrape(fleet.adminUrl, "text");
  for (const code of ["model-not-found", "no-capacity", "internal"]) {
    assert.equal(sum(families, "warmpath_refusals_total", { code }), 0);
  }
  assert.equal(sum(families, "warmpath_misses_total"), 0);
  assert.equal(sum(families, "warmpath_gateway_ready"), 1);
  assert.equal(sum(families, "warmpath_pods", { reachable: "true" }), 2);
});

test("hits, misses, refusals, loads and evictions are counted as they were", async () => {
  const { asker, oracle } = fleet;
  const models = oracle.models.filter((name) => !name.startsWith("magika")).slice(0, 60);

  for (const model of models) await asker.ask(model, "rest");
  // Each of these is a hit once its route is live.
  await waitUntil(
    "the last model is routed",
    async () => (await fleet.manage("GET", `/api/v1/models/${models.at(-1)}`)).json as { readonly acknowledged: boolean },
    ({ acknowledged }) => acknowledged,
    30_000,
  );
  for (let seed = 0; seed < 40; seed++) await asker.ask(models.at(-1)!, seed % 2 === 0 ? "rest" : "grpc");
  assert.equal((await fetch(`${fleet.restUrl}/v2/models/no-such-model`)).status, 404);

  const urls = await adapterUrls();
  const seen = await waitUntil(
    "the scrapes have it all",
    async () => ({
      gateway: await scrape(fleet.adminUrl, "openmetrics"),
      adapters: await Promise.all(urls.map((url) => scrape(url, "openmetrics"))),
    }),
    ({ gateway, adapters }) =>
      sum(gateway, "warmpath_hits_total", { port: "http" }) >= 20 &&
      sum(gateway, "warmpath_hits_total", { port: "grpc" }) >= 20 &&
      sum(gateway, "warmpath_hit_seconds_count") >= 20 &&
      sum(gateway, "warmpath_miss_seconds_count") >= 1 &&
      adapters.reduce((total, families) => total + sum(families, "warmpath_unload_seconds_count"), 0) >= 1,
    30_000,
  );
  const { gateway, adapters } = seen;
  const stats = await fleet.stats();
  assert.equal(sum(gateway, "warmpath_misses_total"), stats.misses);
  assert.equal(sum(gateway, "warmpath_refusals_total", { code: "model-not-found" }), 1);
  assert.equal(sum(gateway, "warmpath_park_seconds_count", { outcome: "live" }), stats.misses - 1);
  assert.ok(sum(gateway, "warmpath_xds_ack_seconds_count", { type: "scope" }) > 0);
  assert.ok(sum(gateway, "warmpath_withdraw_ack_seconds_count") > 0);
  assert.equal(sum(gateway, "warmpath_models"), oracle.models.length);
  const over = (name: string): number => adapters.reduce((total, families) => total + sum(families, name), 0);
  assert.ok(over("warmpath_loads_total") >= models.length);
  assert.equal(over("warmpath_load_seconds_count"), over("warmpath_loads_total"));
  assert.equal(over("warmpath_load_queue_seconds_count"), over("warmpath_loads_total"));
  assert.ok(over("warmpath_evictions_total") > 0);
  assert.ok(over("warmpath_withdraw_seconds_count") > 0);
  assert.equal(over("warmpath_pod_capacity_bytes"), sum(gateway, "warmpath_capacity_bytes"));
  assert.equal(over("warmpath_pod_server_up"), 2);
  assert.equal(over("warmpath_load_failures_total"), 0);
});

test("the linter has nothing to say, in either format, and series are bounded", async () => {
  for (const url of [fleet.adminUrl, ...(await adapterUrls())]) {
    for (const format of ["text", "openmetrics"] as const) {
      const families = await scrape(url, format);
      assert.deepEqual(
        lintFamilies(
          families.map((family) => (family.type === "counter" ? { ...family, name: `${family.name}_total` } : family)),
        ),
        [],
      );
      const series = families.reduce((total, { samples }) => total + samples.length, 0);
      assert.ok(series < 700, `${series} series`);
      assert.doesNotMatch(JSON.stringify(families), /iris|wine/);
    }
  }
});

test("Prometheus' own linter has nothing to say", { skip: whyNoPromtool() ?? false }, async () => {
  for (const url of [fleet.adminUrl, ...(await adapterUrls())]) {
    const answer = await fetch(`${url}/metrics`, { headers: { connection: "close" } });
    assert.deepEqual(await lintScrape(await answer.text()), [], url);
  }
});

test("a failed load is told by its kind", async () => {
  await fleet.register("broken-model", `file://${fleet.libraryFolder}/no/such/file.onnx`);
  const answer = await fetch(`${fleet.restUrl}/v2/models/broken-model`);
  assert.ok(answer.status >= 400);
  const failures = await waitUntil(
    "the failure is told",
    async () => {
      const adapters = await Promise.all((await adapterUrls()).map((url) => scrape(url, "text")));
      return adapters.reduce((total, families) => total + sum(families, "warmpath_load_failures_total"), 0);
    },
    (count) => count > 0,
    30_000,
  );
  assert.ok(failures >= 1);
});
