import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { get } from "node:https";
import { join } from "node:path";
import { test } from "node:test";
import { TLSSocket } from "node:tls";
import * as fc from "fast-check";
import { parseExposition } from "../test/harness/exposition.ts";
import { buildExposition, chooseFormat, type Family } from "./exposition.ts";
import { silentLog } from "./log.ts";
import { counter, createMetrics, gauge, histogram } from "./metrics.ts";
import { openMetricsServer } from "./metricsserver.ts";
import { createProcessMetrics, processMetricNames } from "./processmetrics.ts";
import { openRunFolder } from "./tempdir.ts";
import { waitFor } from "./testing.ts";
import { createAuthority, type IdentityFiles, writeIdentity } from "./tls/authority.ts";
import { openPems } from "./tls/pems.ts";

const definitions = {
  jobs: counter("x_jobs_total", "Jobs.", {
    labels: { result: ["ok", "bad"], size: ["s", "l"] },
    alias: { name: "old_bad_jobs", only: { result: ["bad"] } },
  }),
  level: gauge("x_level", "A level."),
  times: histogram("x_job_seconds", 'Times, "quoted" and \\ slashed.', [0.01, 0.5, 1, 2_000_000], {
    labels: { result: ["ok", "bad"] },
    alias: { name: "old_job_milliseconds", scale: 1_000 },
  }),
  named: counter("x_named_total", "By name.", { labels: { model: "open" } }),
};

const options = { log: silentLog };

function valuesOf(text: string, name: string): Readonly<Record<string, number>> {
  const lines = text.split("\n").flatMap((line) => {
    const found = /^([a-z_]+)(?:\{(.*?)\})? (\S+)(?: #.*)?$/.exec(line);
    return found?.[1] === name ? [[found[2] ?? "", Number(found[3])] as const] : [];
  });
  return Object.fromEntries(lines);
}

test("every closed combination of labels is there from the start, at 0", async () => {
  const text = await createMetrics(definitions, options).render("text");
  assert.deepEqual(valuesOf(text, "x_jobs_total"), {
    'result="ok",size="s"': 0,
    'result="ok",size="l"': 0,
    'result="bad",size="s"': 0,
    'result="bad",size="l"': 0,
  });
  assert.deepEqual(valuesOf(text, "x_job_seconds_count"), { 'result="ok"': 0, 'result="bad"': 0 });
  assert.doesNotMatch(text, /x_named_total\{/);
  assert.doesNotMatch(text, /old_/);
});

test("what is recorded is told, in both formats alike", async () => {
  const metrics = createMetrics(definitions, { ...options, aliases: true });
  metrics.of.jobs.add({ result: "ok", size: "s" });
  metrics.of.jobs.add({ result: "bad", size: "s" }, 2);
  metrics.of.jobs.add({ result: "bad", size: "l" }, 3);
  metrics.of.jobs.set({ result: "ok", size: "l" }, 41);
  metrics.of.jobs.set({ result: "ok", size: "l" }, 40);
  metrics.of.times.record({ result: "ok" }, 0.25, "a".repeat(32));
  metrics.of.times.record({ result: "bad" }, 3);
  metrics.of.times.record({ result: "ok" }, Number.NaN);
  metrics.of.named.add({ model: 'a"\\\n' });
  metrics.onCollect(() => metrics.of.level.set({}, 0.1 + 0.2));
  const [text, open] = [await metrics.render("text"), await metrics.render("openmetrics")];
  for (const [written, format] of [
    [text, "text"],
    [open, "openmetrics"],
    [await metrics.render("text"), "text"],
  ] as const) {
    const families = parseExposition(written, format);
    const samples = new Map(
      families
        .flatMap((family) => family.samples)
        .map(({ name, labels, value }) => [
          [
            name,
            ...Object.keys(labels)
              .sort()
              .flatMap((label) => [label, labels[label]]),
          ].join(" "),
          value,
        ]),
    );
    assert.equal(samples.get("x_jobs_total result bad size l"), 3);
    assert.equal(samples.get("x_jobs_total result ok size l"), 40);
    // The parser of the old format gives every counter the suffix that it should have.
    assert.equal(samples.get(format === "text" ? "old_bad_jobs_total" : "old_bad_jobs"), 5);
    assert.equal(samples.get("x_level"), 0.1 + 0.2);
    assert.equal(samples.get('x_named_total model a"\\\n'), 1);
    assert.equal(samples.get("x_job_seconds_bucket le 0.01 result ok"), 0);
    assert.equal(samples.get("x_job_seconds_bucket le 0.5 result ok"), 1);
    assert.equal(samples.get("x_job_seconds_bucket le 2e+06 result bad"), 1);
    assert.equal(samples.get("old_job_milliseconds_bucket le 500.0"), 1);
    assert.equal(samples.get("old_job_milliseconds_bucket le +Inf"), 2);
    assert.equal(samples.get("old_job_milliseconds_sum"), 3_250);
    assert.equal(families.find(({ name }) => name === "x_job_seconds")?.help, 'Times, "quoted" and \\ slashed.');
  }
  assert.match(open, /x_job_seconds_bucket\{le="0\.5",result="ok"\} 1 # \{trace_id="a{32}"\} 0\.25 \d+/);
  assert.doesNotMatch(text, /trace_id/);
});

test("a distribution that is kept elsewhere adds up", async () => {
  const metrics = createMetrics(definitions, options);
  metrics.of.times.replace({ result: "ok" }, { count: 10.4, sum: 3.5, atMost: (value) => (value < 0.5 ? 3.6 : 10.6) });
  const text = await metrics.render("openmetrics");
  parseExposition(text, "openmetrics");
  assert.deepEqual(valuesOf(text, "x_job_seconds_bucket"), {
    'result="ok",le="0.01"': 4,
    'result="ok",le="0.5"': 10,
    'result="ok",le="1.0"': 10,
    'result="ok",le="2e+06"': 10,
    'result="ok",le="+Inf"': 10,
  });
});

test("what cannot be read costs neither the others nor the scrape", async () => {
  const metrics = createMetrics(definitions, options);
  metrics.onCollect(() => {
    throw new Error("gone");
  });
  metrics.onCollect(() => new Promise(() => undefined));
  metrics.onCollect(() => metrics.of.level.set({}, 7));
  assert.deepEqual(valuesOf(await metrics.render("text"), "x_level"), { "": 7 });
});

test("any text in labels and help, and any number, is written so that it is read back", () => {
  const text = fc.string({ unit: "binary", maxLength: 20 }).map((each) => each.replaceAll("\r", "?").toWellFormed());
  const families: Family[] = fc.sample(fc.tuple(text, text, fc.double()), 200).map(([help, value, number], at) => ({
    kind: "gauge",
    name: `x_${at}`,
    help: help.trim(),
    samples: [{ name: `x_${at}`, labels: { value }, value: number }],
  }));
  const parsed = parseExposition(buildExposition(families, "openmetrics"), "openmetrics");
  assert.deepEqual(
    parsed.map(({ samples }) => samples[0]?.labels["value"]),
    families.map(({ samples }) => samples[0]?.labels["value"]),
  );
});

const accepts: readonly (readonly [string | undefined, "text" | "openmetrics"])[] = [
  [undefined, "text"],
  ["", "text"],
  ["*/*", "text"],
  ["text/html", "text"],
  ["application/openmetrics-text; version=1.0.0", "openmetrics"],
  ["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", "openmetrics"],
  ["application/openmetrics-text;q=0.1,text/plain;q=0.9", "text"],
  ["application/openmetrics-text;q=0", "text"],
  ["application/openmetrics-text;q=x", "text"],
];
for (const [accept, format] of accepts) {
  test(`a scraper that accepts ${accept} gets ${format}`, () => assert.equal(chooseFormat(accept), format));
}

test("who asks whether a process is drained is answered when it is, or that it was not asked to", async () => {
  const metrics = createMetrics(definitions, options);
  const waits: { readonly done: PromiseWithResolvers<void>; readonly gone: AbortSignal }[] = [];
  const untilDrained = async (gone: AbortSignal): Promise<void> => {
    const done = Promise.withResolvers<void>();
    waits.push({ done, gone });
    await done.promise;
  };
  await using server = await openMetricsServer({ host: "127.0.0.1", port: 0, untilDrained }, metrics, silentLog);
  const ask = (init: RequestInit = {}): Promise<Response> => fetch(`http://127.0.0.1:${server.port}/drained`, init);
  const asked = async (count: number): Promise<(typeof waits)[number]> => {
    while (waits.length < count) await new Promise((resolve) => setImmediate(resolve));
    return waits[count - 1] as (typeof waits)[number];
  };
  const first = ask();
  (await asked(1)).done.resolve();
  assert.deepEqual([(await first).status, await (await first).text()], [200, "drained\n"]);
  const second = ask();
  (await asked(2)).done.reject(new Error("it has not been asked to stop"));
  assert.deepEqual([(await second).status, await (await second).text()], [409, "it has not been asked to stop\n"]);
  // Nothing is kept for those who have gone.
  const leaving = new AbortController();
  const third = ask({ signal: leaving.signal }).catch((error: unknown) => error);
  const { gone, done } = await asked(3);
  leaving.abort();
  assert.ok((await third) instanceof Error);
  if (!gone.aborted) await new Promise((resolve) => gone.addEventListener("abort", resolve));
  done.resolve();
  assert.equal((await ask({ method: "POST" })).status, 405);
});

test("who has a certificate is scraped over TLS alone, and shows a renewed one to who comes after", async () => {
  await using stack = new AsyncDisposableStack();
  const { path } = stack.use(await openRunFolder());
  const authority = await createAuthority("scraped", 3_600_000);
  const write = async (): Promise<IdentityFiles> =>
    await writeIdentity(join(path, "tls"), authority.cert, await authority.issue(["127.0.0.1"], 3_600_000));
  const files = await write();
  const tls = stack.use(await openPems({ certFile: files.cert, keyFile: files.key, refreshMs: 50, log: silentLog }));
  const server = stack.use(
    await openMetricsServer({ host: "127.0.0.1", port: 0, tls }, createMetrics(definitions, options), silentLog),
  );
  const scrape = async (): Promise<{ readonly status: number | undefined; readonly serial: string | undefined }> => {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    get({ host: "127.0.0.1", port: server.port, path: "/metrics", ca: authority.cert, agent: false }, resolve).once(
      "error",
      reject,
    );
    const answer = await promise;
    answer.resume();
    const { socket } = answer;
    return {
      status: answer.statusCode,
      serial: socket instanceof TLSSocket ? socket.getPeerX509Certificate()?.serialNumber : undefined,
    };
  };
  const first = await scrape();
  assert.equal(first.status, 200);
  await assert.rejects(fetch(`http://127.0.0.1:${server.port}/metrics`));
  await write();
  await waitFor(async () => (await scrape()).serial !== first.serial);
});

test("a process without a management API is scraped on a port of its own, and nothing else is there", async () => {
  const metrics = createMetrics(definitions, { ...options, more: createProcessMetrics() });
  await using server = await openMetricsServer({ host: "127.0.0.1", port: 0 }, metrics, silentLog);
  const ask = (path: string, init: RequestInit = {}): Promise<Response> => fetch(`http://127.0.0.1:${server.port}${path}`, init);
  const scraped = await ask("/metrics", { headers: { accept: "application/openmetrics-text" } });
  assert.match(scraped.headers.get("content-type") ?? "", /^application\/openmetrics-text; version=1\.0\.0/);
  const names = new Set(parseExposition(await scraped.text(), "openmetrics").map(({ name }) => name.replace(/_total$/, "")));
  // The collector may not have run yet.
  const expected = processMetricNames.filter((name) => name !== "nodejs_gc_duration_seconds");
  for (const name of expected) assert.ok(names.has(name.replace(/_total$/, "")), name);
  assert.equal((await ask("/metrics")).headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  assert.equal((await ask("/healthz")).status, 200);
  assert.equal((await ask("/")).status, 404);
  assert.equal((await ask("/metrics", { method: "POST", body: "x" })).status, 405);
});
