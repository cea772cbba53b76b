// One trace from end to end where things go wrong or go far: a reroute, a load that fails, a model whose home is another
// gateway. What the processes log of such a request, and the exemplars of their metrics, lead to the same trace.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openRegistry } from "#platform/registry/open.ts";
import { openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { type Collector, openCollector, type SeenSpan } from "../harness/otlp.ts";
import { waitUntil } from "../harness/wait.ts";

const client = "c".repeat(16);
const deadlineMs = 60_000;
let collector: Collector;
let fleet: TestFleet;

before(async () => {
  collector = await openCollector();
  const tracing = { endpoint: collector.httpEndpoint, protocol: "http", share: 0 } as const;
  fleet = await openFleet({ pods: 2, gateways: 2, tracing });
});
after(async () => {
  await fleet?.[Symbol.asyncDispose]();
  await collector?.[Symbol.asyncDispose]();
});

function newTrace(): { readonly traceId: string; readonly headers: Record<string, string> } {
  const traceId = randomBytes(16).toString("hex");
  return { traceId, headers: { traceparent: `00-${traceId}-${client}-01` } };
}

async function ask(of: TestFleet, model: string): Promise<{ readonly traceId: string; readonly status: number }> {
  const { traceId, headers } = newTrace();
  const answer = await fetch(`${of.restUrl}/v2/models/${model}`, { headers });
  await answer.text();
  return { traceId, status: answer.status };
}

/** Once `last` is there, and all that spans hang on: each process sends its own when it likes. */
async function trace(traceId: string, last: string): Promise<readonly SeenSpan[]> {
  return await waitUntil(
    `the trace has ${last}, and every span its parent`,
    () => collector.spans.filter((span) => span.traceId === traceId),
    (seen) => {
      const ids = new Set([client, ...seen.map(({ spanId }) => spanId)]);
      return seen.some(({ name }) => name === last) && seen.every(({ parentId }) => ids.has(parentId));
    },
    deadlineMs,
  );
}

/** The one of these spans that has the name and hangs below `parent`. */
function below(spans: readonly SeenSpan[], parent: SeenSpan, name: string): SeenSpan {
  const found = spans.filter((span) => span.name === name && span.parentId === parent.spanId);
  assert.equal(found.length, 1, `one ${name} below ${parent.name}, of ${spans.map((each) => each.name).join(", ")}`);
  const [span] = found as [SeenSpan];
  // Clocks of different processes differ by fractions of a millisecond.
  assert.ok(span.startMs >= parent.startMs - 5, `${name} begins within ${parent.name}`);
  return span;
}

function one(spans: readonly SeenSpan[], service: string, name: string): SeenSpan {
  const found = spans.filter((span) => span.service === service && span.name === name);
  assert.equal(found.length, 1, `one ${name} of ${service}, of ${spans.map((each) => each.name).join(", ")}`);
  return found[0]!;
}

interface Line {
  readonly msg?: string;
  readonly trace_id?: string;
}

/** What a process has logged. */
function linesOf(of: TestFleet, name: string): readonly Line[] {
  return (
    readFileSync(join(of.logFolder, `${name}.log`), "utf8")
      .split("\n")
      // The last one may not be whole yet.
      .slice(0, -1)
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Line)
  );
}

/** Its artefact is there, but no model. */
async function registerBroken(of: TestFleet): Promise<void> {
  await of.register("broken", `file://${join(of.libraryFolder, "data")}/magika.json`);
}

test("a reroute hangs below Envoy's call of the gateway, with each question to the pods and the load that followed", async () => {
  const model = "iris-t0001";
  await ask(fleet, model);
  const { copies } = (await fleet.manage("GET", `/api/v1/models/${model}`)).json as { copies: readonly { pod: string }[] };
  const pod = copies[0]!.pod;
  await waitUntil(
    "the model is routed",
    async () => (await fleet.manage("GET", `/api/v1/models/${model}`)).json as { readonly acknowledged: boolean },
    ({ acknowledged }) => acknowledged,
    deadlineMs,
  );
  const before = (await fleet.stats()).reroutes;
  // An adapter that stands still takes no route away: the request goes to the pod that died, for certain.
  const adapter = fleet.process(`${pod}-adapter`).pid!;
  process.kill(adapter, "SIGSTOP");
  let asking: ReturnType<typeof ask>;
  try {
    process.kill(fleet.process(`${pod}-server`).pid!, "SIGKILL");
    asking = ask(fleet, model);
    await waitUntil(
      "the request is rerouted",
      async () => (await fleet.stats()).reroutes,
      (reroutes) => reroutes > before,
      deadlineMs,
    );
  } finally {
    process.kill(adapter, "SIGCONT");
  }
  const { traceId, status } = await asking;
  assert.equal(status, 200);
  const spans = await trace(traceId, "reroute");
  const reroute = one(spans, "warmpath-gateway", "reroute");
  assert.equal(reroute.attributes["warmpath.model"], model);
  assert.equal(spans.find(({ spanId }) => spanId === reroute.parentId)?.service, "warmpath-envoy");
  assert.ok(!reroute.failed);
  const verifications = spans.filter(({ name, parentId }) => name === "verify" && parentId === reroute.spanId);
  assert.ok(verifications.length > 0 && verifications[0]!.failed, "the first question finds no pod");
  assert.ok(!spans.some(({ name }) => name === "miss"));
  assert.ok(spans.some(({ parentId }) => parentId === client));
});

test("a load that fails is a failed span in each process, and what they log of it has the trace's id", async () => {
  await registerBroken(fleet);
  const { traceId, status } = await ask(fleet, "broken");
  assert.ok(status >= 400);
  const spans = await trace(traceId, "miss");
  const miss = one(spans, "warmpath-gateway", "miss");
  const park = below(spans, miss, "park");
  const whole = await trace(traceId, "load");
  const asked = whole.filter(({ name }) => name === "ask");
  const loads = whole.filter(({ name }) => name === "load");
  assert.ok(asked.length > 0 && loads.length > 0);
  for (const span of [miss, park, ...asked, ...loads]) assert.ok(span.failed, `${span.name} has failed`);
  for (const load of loads) {
    assert.equal(load.service, "warmpath-adapter");
    assert.equal(load.attributes["warmpath.fault"], "model");
    assert.ok(below(whole, load, "server-load").failed && !below(whole, load, "pull").failed);
    assert.ok(asked.some(({ spanId }) => spanId === load.parentId));
  }
  const idsOf = (name: string): readonly (string | undefined)[] =>
    linesOf(fleet, name).flatMap(({ msg, trace_id: id }) => (msg === "a load failed" ? [id] : []));
  for (const kind of [/^gateway/, /-adapter$/]) {
    const told = await waitUntil(
      `a process of ${kind} tells of the failure`,
      () => [...fleet.processes.keys()].filter((name) => kind.test(name)).flatMap(idsOf),
      ({ length }) => length > 0,
      deadlineMs,
    );
    assert.deepEqual(new Set(told), new Set([traceId]), String(kind));
  }
});

test("a model whose home is another gateway is one trace over both", async () => {
  for (const model of fleet.oracle.models.slice(100, 140)) {
    const { traceId, status } = await ask(fleet, model);
    assert.equal(status, 200);
    const spans = await trace(traceId, "miss");
    const park = below(spans, one(spans, "warmpath-gateway", "miss"), "park");
    if (!spans.some(({ name }) => name === "home")) continue;
    const whole = await trace(traceId, "ensure");
    const home = below(whole, park, "home");
    const ensure = below(whole, home, "ensure");
    assert.deepEqual([park.instance, ensure.instance].toSorted(), ["gateway-0", "gateway-1"]);
    assert.equal(home.attributes["warmpath.gateway"], ensure.instance);
    const there = below(whole, ensure, "park");
    below(whole, there, "place");
    const asked = below(whole, there, "ask");
    const load = below(await trace(traceId, "load"), asked, "load");
    assert.deepEqual([load.service, load.instance], ["warmpath-adapter", String(asked.attributes["warmpath.pod"])]);
    return;
  }
  assert.fail("of forty models none has the other gateway as its home");
});

test("the model server is sent the context of Envoy's last span, of a hit and of a miss", async () => {
  await using stack = new AsyncDisposableStack();
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(String(request.headers["traceparent"]));
    request.resume().once("end", () => response.setHeader("content-type", "application/json").end("{}"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const registry = stack.use(await openRegistry(fleet.registry));
  stack.use(await openFakePod({ registry, podId: "other-0", runtime: "other", restAddress: address, grpcAddress: address }));
  const put = await fleet.manage("PUT", "/api/v1/models/elsewhere", { format: "other", storageUri: "file:///x" });
  assert.equal(put.status, 201, put.text);
  for (const kind of ["miss", "hit"]) {
    const before = (await fleet.stats()).javascriptRequests;
    // The pod may not be linked yet: then it is answered so, and asked again.
    const { traceId } = await waitUntil(
      `a ${kind} is answered`,
      () => ask(fleet, "elsewhere"),
      ({ status }) => status === 200,
      deadlineMs,
    );
    const spans = await trace(traceId, kind === "miss" ? "miss" : "ingress");
    const [, sentTrace, sentSpan, flags] = (seen.at(-1) ?? "").split("-");
    assert.deepEqual([sentTrace, flags], [traceId, "01"]);
    const last = spans.find(({ spanId }) => spanId === sentSpan);
    assert.equal(
      last?.service,
      "warmpath-envoy",
      `${kind}: what is sent is Envoy's own span of ${spans.map(({ name }) => name).join()}`,
    );
    if (kind === "hit") assert.equal((await fleet.stats()).javascriptRequests, before);
    await waitUntil(
      "the model is routed",
      async () => (await fleet.manage("GET", "/api/v1/models/elsewhere")).json as { readonly acknowledged: boolean },
      ({ acknowledged }) => acknowledged,
      deadlineMs,
    );
  }
});

test("exemplars of gateway and adapter lead to the trace of a miss", async () => {
  const { traceId } = await ask(fleet, "wine-t0003");
  await trace(traceId, "miss");
  const scrape = async (url: string): Promise<string> =>
    await (await fetch(url, { headers: { accept: "application/openmetrics-text; version=1.0.0" } })).text();
  const listed = (await fleet.manage("GET", "/api/v1/scrape-targets")).json as readonly { readonly targets: readonly string[] }[];
  const texts = [
    await scrape(`${fleet.adminUrl}/metrics`),
    (await Promise.all(listed.flatMap(({ targets }) => targets.map((target) => scrape(`http://${target}/metrics`))))).join("\n"),
  ];
  for (const text of texts) assert.ok(text.includes(`# {trace_id="${traceId}"}`), text.match(/.*# \{.*/g)?.join("\n") ?? "none");
});

test("without a collector, what is logged of a request still has the id that its client gave", async () => {
  await using plain = await openFleet({ pods: 1 });
  await registerBroken(plain);
  const { traceId } = await ask(plain, "broken");
  for (const name of ["gateway", "pod-0-adapter"]) {
    const lines = await waitUntil(
      `${name} tells of the failure`,
      () => linesOf(plain, name).filter(({ msg }) => msg === "a load failed"),
      ({ length }) => length > 0,
      deadlineMs,
    );
    assert.deepEqual(new Set(lines.map(({ trace_id: id }) => id)), new Set([traceId]), name);
  }
});

test("a collector that is not there costs no request, and no process its end", async () => {
  await using lone = await openFleet({ pods: 1, tracing: { endpoint: "http://127.0.0.1:1", protocol: "http", share: 1 } });
  const models = lone.oracle.models.slice(0, 20);
  for (let round = 0; round < 10; round++) {
    const answers = await Promise.all(models.map((model) => ask(lone, model)));
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
  }
  const gateway = lone.process("gateway");
  const killedMs = 60_000;
  const startMs = performance.now();
  await gateway.stop(killedMs);
  assert.ok(performance.now() - startMs < killedMs, "it ended by itself");
});
