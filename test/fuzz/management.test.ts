// The management API under requests that are nearly right: each is answered as it should be or refused with a code of the
// catalogue, never with a fault of ours, and what is registered can be read afterwards.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import * as fc from "fast-check";
import type { InjectOptions } from "fastify";
import { z } from "zod";
import { isErrorCode } from "#core/errors.ts";
import { type AdminBench, openAdminBench } from "#gateway/admin/testing.ts";
import { mutated } from "./mutate.ts";

const runs = 3_000;

interface Call {
  readonly method: "GET" | "PUT" | "POST" | "PATCH" | "DELETE";
  readonly url: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

const good: readonly Call[] = [
  { method: "GET", url: "/api/v1/models?limit=5&after=a" },
  { method: "GET", url: "/api/v1/models/m" },
  { method: "GET", url: "/api/v1/models/m/explain" },
  { method: "GET", url: "/api/v1/models/m/events" },
  {
    method: "PUT",
    url: "/api/v1/models/m",
    body: { format: "onnx", storageUri: "s3://b/m", storageParameters: { bucket: "b" }, sizeHintBytes: 5 },
  },
  {
    method: "PUT",
    url: "/api/v1/models/n",
    body: {
      revision: "v1",
      format: "onnx",
      formatVersion: "1",
      storageUri: "s3://b/n",
      requiredLabels: { a: "b" },
      minCopies: 0,
      maxCopies: 2,
      priority: "low",
      tenant: "t",
      labels: { x: "y" },
    },
  },
  {
    method: "PATCH",
    url: "/api/v1/models/m",
    body: { priority: "high", pinned: false, labels: { a: "b" }, split: [{ revision: "r", percent: 5 }] },
  },
  { method: "POST", url: "/api/v1/models/m/revisions", body: { id: "v2", format: "onnx", storageUri: "s3://b/m2" } },
  { method: "PUT", url: "/api/v1/models/m/target", body: { revision: "v2" } },
  { method: "POST", url: "/api/v1/models/m/rollback" },
  { method: "PUT", url: "/api/v1/models/m/split", body: { split: [{ revision: "v2", percent: 10 }] } },
  { method: "PUT", url: "/api/v1/models/m/mirror", body: { revision: "v2", percent: 10 } },
  { method: "DELETE", url: "/api/v1/models/m/revisions/v2" },
  { method: "DELETE", url: "/api/v1/models/n" },
  { method: "POST", url: "/api/v1/models/m/load", body: { copies: 1 } },
  { method: "GET", url: "/api/v1/pods" },
  { method: "GET", url: "/api/v1/slow" },
];

const oddSegment = fc.oneof(
  fc.constantFrom("..", "%2e%2e", "%00", "%", "%ff", "a%2fb", "a b", "~", "__proto__", "a".repeat(300), "%F0%9F%92%A9", "*", ""),
  fc.string({ maxLength: 8 }).map((text) => encodeURIComponent(text.toWellFormed())),
);
const url = (base: string): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.constant(base) },
    fc.tuple(fc.nat(8), oddSegment).map(([at, segment]) => {
      const segments = base.split("/");
      segments[Math.min(segments.length - 1, at)] = segment;
      return `/${segments.join("/").replace(/^\/+/, "")}`;
    }),
    fc
      .tuple(fc.constantFrom("limit", "after", "state", "wait", "x"), oddSegment)
      .map(([name, value]) => `${base}${base.includes("?") ? "&" : "?"}${name}=${value}`),
  );
const headers = fc.oneof(
  { weight: 6, arbitrary: fc.constant({}) },
  fc.constantFrom<Readonly<Record<string, string>>>(
    { "if-match": "x" },
    { "if-match": '"1"' },
    { "content-type": "text/plain" },
    { "content-type": "application/json; charset=klingon" },
    { "content-encoding": "gzip" },
    { "content-length": "5" },
    { origin: "https://elsewhere.example" },
    { authorization: "Bearer x" },
    { cookie: "=;;==" },
  ),
);
const call: fc.Arbitrary<Call> = fc.constantFrom(...good).chain((base) => {
  const body =
    base.body === undefined ? fc.oneof({ weight: 8, arbitrary: fc.constant(undefined) }, fc.jsonValue()) : mutated(base.body);
  const method = fc.oneof(
    { weight: 9, arbitrary: fc.constant(base.method) },
    fc.constantFrom(...good.map((each) => each.method)),
  );
  return fc.record({ method, url: url(base.url), body, headers });
});
const rawBody = fc.oneof(
  fc.string(),
  fc.constantFrom('{"format":', "[[[[", '{"a":1}{', "\ufeff{}", "NaN", '{"__proto__":1}', '"x"', "0"),
);

const corpus = z
  .array(
    z.object({
      name: z.string(),
      method: z.enum(["GET", "PUT", "POST", "PATCH", "DELETE"]),
      url: z.string(),
      body: z.string().optional(),
    }),
  )
  .parse(JSON.parse(readFileSync(new URL("corpus/management.json", import.meta.url), "utf8")));

describe("the management API", () => {
  let bench: AdminBench;
  before(async () => {
    bench = await openAdminBench({ pods: 1 });
  });
  after(() => bench?.[Symbol.asyncDispose]());

  async function ask({ method, url: path, body, headers: given }: Call, raw?: string): Promise<void> {
    const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body));
    const options: InjectOptions = {
      method,
      url: path,
      headers: { ...(payload === undefined ? {} : { "content-type": "application/json" }), ...given },
      ...(payload === undefined ? {} : { payload }),
    };
    const answer = await bench.app.inject(options);
    const said = `${method} ${path} ${payload?.slice(0, 300)}: ${answer.statusCode} ${answer.body.slice(0, 300)}`;
    // A pod that is not there, or a load that failed, is no fault of ours.
    assert.ok(answer.statusCode < 500 || answer.statusCode === 503 || answer.statusCode === 504, said);
    if (answer.statusCode < 400 || method === "GET") return;
    const { code, error } = z.object({ code: z.string(), error: z.string() }).parse(answer.json(), { reportInput: true });
    assert.ok(isErrorCode(code) && error.length > 0 && error.length < 2_000, said);
  }

  for (const { name, body, ...rest } of corpus) test(`of the corpus: ${name}`, () => ask(rest, body));

  test(`${runs} calls that are nearly right`, async () => {
    await fc.assert(
      fc.asyncProperty(call, (given) => ask(given)),
      { numRuns: runs },
    );
  });

  test("bodies that are no JSON", async () => {
    const written = good.filter(({ body }) => body !== undefined);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...written), rawBody, (given, raw) => ask(given, raw)),
      { numRuns: 500 },
    );
  });

  test("what was registered on the way can be read, and more can be registered", async () => {
    const payload = { format: "onnx", storageUri: "s3://b/late" };
    const put = await bench.app.inject({ method: "PUT", url: "/api/v1/models/late", payload });
    assert.ok(put.statusCode < 300, put.body);
    const { statusCode, body } = await bench.app.inject({ method: "GET", url: "/api/v1/models?limit=1000" });
    assert.equal(statusCode, 200);
    const { models } = z.object({ models: z.array(z.string()) }).parse(JSON.parse(body));
    assert.ok(models.includes("late"), models.join());
    for (const name of models) {
      assert.equal((await bench.app.inject({ method: "GET", url: `/api/v1/models/${name}` })).statusCode, 200, name);
    }
  });
});
