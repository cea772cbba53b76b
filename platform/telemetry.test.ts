import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { contextOfSpan, createTracer, endSpan, traceContextFromHeaders, traceparentOf } from "./telemetry.ts";

const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;

test("the parent comes from the headers, a malformed one is none", () => {
  const context = traceContextFromHeaders((name) => (name === "traceparent" ? traceparent : undefined));
  assert.deepEqual(trace.getSpanContext(context), {
    traceId: "a".repeat(32),
    spanId: "b".repeat(16),
    traceFlags: 1,
    isRemote: true,
  });
  for (const bad of [undefined, "", "00-x", traceparent.replaceAll("a", "0"), `${traceparent}-x`]) {
    assert.equal(
      traceContextFromHeaders(() => bad),
      ROOT_CONTEXT,
    );
  }
});

test("without an endpoint nothing is traced", async () => {
  await using owned = await createTracer({ service: "gateway" });
  const span = owned.tracer.startSpan("load");
  assert.equal(span.isRecording(), false);
  assert.equal(traceparentOf(span), undefined);
  endSpan(span, "failed");
});

test("with an endpoint, spans below Envoy's reach the collector at the latest at the end", async () => {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      server.emit("spans", request.url, Buffer.concat(chunks).toString("latin1"));
      response.end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const arrived = once(server, "spans");
  {
    await using owned = await createTracer({ service: "gateway", endpoint: `http://127.0.0.1:${port}/` });
    const parent = owned.tracer.startSpan(
      "miss",
      {},
      traceContextFromHeaders(() => traceparent),
    );
    const child = owned.tracer.startSpan("load", {}, contextOfSpan(parent));
    assert.match(traceparentOf(child) ?? "", /^00-a{32}-[0-9a-f]{16}-01$/);
    endSpan(child);
    endSpan(parent);
  }
  const [url, body] = (await arrived) as [string, string];
  assert.equal(url, "/v1/traces");
  assert.match(body, /miss/);
  assert.match(body, /load/);
  server.closeAllConnections();
  server.close();
  await once(server, "close");
});
