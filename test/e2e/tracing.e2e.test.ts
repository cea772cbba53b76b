// One request, one trace, from Envoy over the gateway to the adapter, as a real collector sees it: a hit, a miss with an
// eviction, and a request that is not to be traced, over both protocols of OTLP.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { type Collector, openCollector, type SeenSpan } from "../harness/otlp.ts";
import { waitUntil } from "../harness/wait.ts";

const secret = "s3cr3t-9d1f";

for (const protocol of ["http", "grpc"] as const) {
  describe(`traces over OTLP ${protocol}`, () => {
    let collector: Collector;
    let fleet: TestFleet;
    before(async () => {
      collector = await openCollector();
      const endpoint = protocol === "http" ? collector.httpEndpoint : collector.grpcEndpoint;
      fleet = await openFleet({ pods: 1, capacityBytes: 3 * 2 ** 20, tracing: { endpoint, protocol, share: 0 } });
    });
    after(async () => {
      await fleet?.[Symbol.asyncDispose]();
      await collector?.[Symbol.asyncDispose]();
    });

    /** Sends one request in a trace of its own and returns the trace's id. */
    async function ask(model: string, path = "", flags = "01"): Promise<{ readonly traceId: string; readonly status: number }> {
      const traceId = randomBytes(16).toString("hex");
      const headers = {
        traceparent: `00-${traceId}-${"b".repeat(16)}-${flags}`,
        authorization: `Bearer ${secret}`,
        "content-type": "application/json",
      };
      const answer = await fetch(`${fleet.restUrl}/v2/models/${model}${path}`, { headers });
      await answer.text();
      return { traceId, status: answer.status };
    }

    /** Spans whose parent is not there, by name. A span is told when it ends, and so are those below it before it. */
    const orphansOf = (spans: readonly SeenSpan[]): readonly string[] => {
      const ids = new Set(["b".repeat(16), ...spans.map(({ spanId }) => spanId)]);
      return spans.filter(({ parentId }) => !ids.has(parentId)).map(({ name }) => name);
    };

    async function trace(traceId: string, whole: (spans: readonly SeenSpan[]) => boolean): Promise<readonly SeenSpan[]> {
      const spans = await waitUntil(
        "the trace is whole, with the parent of each span",
        () => collector.spans.filter((span) => span.traceId === traceId),
        (seen) => seen.some(({ parentId }) => parentId === "b".repeat(16)) && orphansOf(seen).length === 0 && whole(seen),
        30_000,
      );
      for (const { name, startMs, endMs } of spans) {
        assert.ok(startMs > 1.7e12 && endMs >= startMs && endMs - startMs < 60_000, `${name} has sound times`);
      }
      return spans;
    }

    const named = (spans: readonly SeenSpan[], service: string, name: string): SeenSpan => {
      const found = spans.filter((span) => span.service === service && span.name === name);
      assert.equal(
        found.length,
        1,
        `one span ${name} of ${service}: ${spans.map((span) => `${span.service} ${span.name}`).join(", ")}`,
      );
      return found[0]!;
    };
    const within = (inner: SeenSpan, outer: SeenSpan): void => {
      assert.equal(inner.parentId, outer.spanId, `${inner.name} hangs below ${outer.name}`);
      // Clocks of different processes differ by fractions of a millisecond.
      assert.ok(inner.startMs >= outer.startMs - 5, `${inner.name} begins within ${outer.name}`);
    };

    test("a miss is one trace: park, place, ask, the adapter's load, ack", async () => {
      const { traceId, status } = await ask("iris-t0001");
      assert.equal(status, 200);
      const spans = await trace(
        traceId,
        (seen) => seen.some(({ name }) => name === "load") && seen.some(({ name }) => name === "miss"),
      );
      const miss = named(spans, "warmpath-gateway", "miss");
      assert.equal(miss.attributes["warmpath.model"], "iris-t0001");
      const park = named(spans, "warmpath-gateway", "park");
      within(park, miss);
      const place = named(spans, "warmpath-gateway", "place");
      within(place, park);
      assert.equal(place.attributes["warmpath.pod"], "pod-0");
      const askSpan = named(spans, "warmpath-gateway", "ask");
      within(askSpan, park);
      within(named(spans, "warmpath-gateway", "ack"), park);
      const load = named(spans, "warmpath-adapter", "load");
      within(load, askSpan);
      assert.equal(load.attributes["warmpath.class"], "waiting-user");
      assert.ok(Number(load.attributes["warmpath.size_bytes"]) > 0);
      for (const name of ["queue", "pull", "turn", "server-load"]) within(named(spans, "warmpath-adapter", name), load);
      assert.ok(spans.some(({ service, parentId }) => service === "warmpath-envoy" && parentId === "b".repeat(16)));
      assert.ok(!spans.some(({ failed }) => failed));
    });

    test("a hit is spans of Envoy alone, and its context reaches the model server", async () => {
      await waitUntil(
        "the model is routed",
        async () => (await fleet.manage("GET", "/api/v1/models/iris-t0001")).json as { readonly acknowledged: boolean },
        ({ acknowledged }) => acknowledged,
        30_000,
      );
      const before = (await fleet.stats()).javascriptRequests;
      const { traceId, status } = await ask("iris-t0001");
      assert.equal(status, 200);
      const spans = await trace(traceId, (seen) => seen.length >= 2);
      assert.deepEqual(new Set(spans.map(({ service }) => service)), new Set(["warmpath-envoy"]));
      const ingress = spans.find(({ parentId }) => parentId === "b".repeat(16))!;
      assert.ok(
        spans.some(({ parentId }) => parentId === ingress.spanId),
        "the way to the pod is a span below",
      );
      assert.equal((await fleet.stats()).javascriptRequests, before);
    });

    test("an eviction hangs below the load that it makes room for", async () => {
      const names = fleet.oracle.models.filter((name) => name.startsWith("iris") || name.startsWith("wine")).slice(1, 80);
      const ids = new Set<string>();
      for (const name of names) ids.add((await ask(name)).traceId);
      const evict = await waitUntil(
        "an eviction is told",
        () => collector.spans.find(({ name, traceId }) => name === "evict" && ids.has(traceId)),
        (span) => span !== undefined,
        60_000,
      );
      const spans = await trace(
        evict!.traceId,
        (seen) => seen.some(({ name }) => name === "unload") && seen.some(({ name }) => name === "miss"),
      );
      within(named(spans, "warmpath-adapter", "evict"), named(spans, "warmpath-gateway", "ask"));
      within(named(spans, "warmpath-adapter", "withdraw"), evict!);
    });

    test("neither spans nor logs hold a credential or a body", async () => {
      const logs = [...fleet.processes.keys()].map((name) => readFileSync(join(fleet.logFolder, `${name}.log`), "utf8"));
      assert.doesNotMatch(collector.raw(), new RegExp(secret));
      for (const log of logs) assert.doesNotMatch(log, new RegExp(secret));
    });

    test("requests that their clients do not want traced are not: misses, evictions for them, hits, refusals", async () => {
      const unwanted: string[] = [];
      const names = fleet.oracle.models.filter((name) => name.startsWith("iris") || name.startsWith("wine")).slice(100, 130);
      for (const name of [...names, names.at(-1) ?? "", "there-is-no-such-model"]) {
        const { traceId } = await ask(name, "", "00");
        unwanted.push(traceId);
      }
      // What is told of later ones comes behind what would have been told of these.
      const others = [await ask("iris-t0001"), await ask("iris-t0002")];
      for (const { traceId } of others) await trace(traceId, () => true);
      // Gateway and adapter tell all that is left when they end.
      await fleet[Symbol.asyncDispose]();
      assert.deepEqual(
        collector.spans.filter((span) => unwanted.includes(span.traceId)).map(({ service, name }) => `${service} ${name}`),
        [],
      );
      const wanted = new Set(collector.spans.map(({ traceId }) => traceId));
      assert.ok(others.every(({ traceId }) => wanted.has(traceId)));
    });
  });
}
