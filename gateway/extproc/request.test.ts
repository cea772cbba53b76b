import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelName } from "#core/model.ts";
import { reroute } from "./answer.ts";
import { type MissRequest, parseMiss, parseReroute } from "./request.ts";

function rest(path: string, more: Record<string, string> = {}): MissRequest {
  return parseMiss(new Map(Object.entries({ ":path": path, ":method": "POST", ...more })), []);
}

function grpc(method: string, more: Record<string, string> = {}): MissRequest {
  return parseMiss(new Map(Object.entries({ ":path": method, "content-type": "application/grpc", ...more })), []);
}

test("a client says how urgent its request is, by either wire, in one of three words", () => {
  const path = "/v2/models/iris/infer";
  for (const request of [
    rest(path, { "x-request-priority": "high" }),
    grpc(infer, { "x-warm-model": "iris", "x-request-priority": "high" }),
  ]) {
    assert.equal(request.kind === "infer" ? request.priority : request.kind, "high");
  }
  assert.equal(rest(path, { "x-request-priority": "urgent" }).kind, "refused");
  const none = rest(path);
  assert.equal(none.kind === "infer" ? none.priority : "", undefined);
});

const restCases: [path: string, expected: string][] = [
  ["/v2/models/iris/infer", "infer iris"],
  ["/v2/models/iris", "infer iris"],
  ["/v2/models/iris/ready?x=1", "infer iris"],
  ["/v2/models/iris/versions/1/infer", "infer iris"],
  ["/v1/models/iris:predict", "infer iris"],
  ["/v1/models/iris/:predict", "infer iris"],
  ["/v2", "server metadata"],
  ["/v2/health/ready", "server ready"],
  ["/v2/health/live", "server live"],
  ["/v2/repository/index", "server index"],
  ["/v2/repository/index?ready=true", "server index-ready"],
  ["/v2/models/iris/unload", "refused unsupported-method"],
  ["/v2/repository/models/iris/load", "refused unsupported-method"],
  ["/v2/repository/models/iris/unload", "refused unsupported-method"],
  ["/v2/models/iris/trace/setting", "refused unsupported-method"],
  ["/v2/logging", "refused unsupported-method"],
  ["/constructor", "refused unsupported-method"],
  ["/v2/models//infer", "refused invalid-name"],
  ["/v2/models/../infer", "refused invalid-name"],
  ["/v2/models/a%20b/infer", "refused invalid-name"],
  ["/v2/models/a~1/infer", "refused invalid-name"],
  ["/v2/models/%E2%82%AC/infer", "refused invalid-name"],
  ["/v2/models/%/infer", "refused invalid-name"],
  [`/v2/models/${"x".repeat(300)}/infer`, "refused invalid-name"],
  ["//v2/models/iris/infer", "refused unsupported-method"],
  ["/v2/models/iris/infer/", "refused unsupported-method"],
];

for (const [path, expected] of restCases) {
  test(`REST ${path.slice(0, 60)} is ${expected}`, () => assert.equal(brief(rest(path)), expected));
}

const infer = "/inference.GRPCInferenceService/ModelInfer";
const grpcCases: [what: string, request: MissRequest, expected: string][] = [
  ["named by the naming filter", grpc(infer, { "x-warm-model": "iris" }), "infer iris"],
  ["named by both kinds of header", grpc(infer, { "mm-model-id": "a", "mm-vmodel-id-bin": "YQ==" }), "refused invalid-request"],
  ["of another service, named", grpc("/tensorflow.serving.PredictionService/Predict", { "x-warm-model": "iris" }), "infer iris"],
  ["of another service, not named", grpc("/tensorflow.serving.PredictionService/Predict"), "refused invalid-request"],
  ["of a path that is no method", grpc("/a/b/c", { "x-warm-model": "iris" }), "refused unsupported-method"],
  ["of the health service", grpc("/grpc.health.v1.Health/Check", { "x-warm-model": "iris" }), "refused unsupported-method"],
  ["not named", grpc(infer), "refused invalid-request"],
  ["badly named", grpc(infer, { "x-warm-bad-name": "a%2Fb" }), "refused invalid-name"],
  [
    "repository load",
    grpc("/inference.GRPCInferenceService/RepositoryModelLoad", { "mm-model-id": "iris" }),
    "refused unsupported-method",
  ],
  ["the runtime's own service", grpc("/mmesh.ModelRuntime/unloadModel", { "mm-model-id": "iris" }), "refused unsupported-method"],
];

for (const [what, request, expected] of grpcCases) {
  test(`gRPC ${what} is ${expected}`, () => assert.equal(brief(request), expected));
}

test("a model named twice in the headers is refused", () => {
  const request = parseMiss(
    new Map([
      [":path", infer],
      ["content-type", "application/grpc"],
      ["mm-model-id", "a"],
    ]),
    ["mm-model-id"],
  );
  assert.equal(brief(request), "refused invalid-request");
});

const timeouts: [text: string, ms: number | "refused"][] = [
  ["5S", 5_000],
  ["200m", 200],
  ["1H", 3_600_000],
  ["2M", 120_000],
  ["500000u", 500],
  ["1000000n", 1],
  ["5s", "refused"],
  ["-1S", "refused"],
  ["123456789S", "refused"],
  ["", "refused"],
];

for (const [text, ms] of timeouts) {
  test(`grpc-timeout ${JSON.stringify(text)} is ${ms}`, () => {
    const request = grpc(infer, { "x-warm-model": "iris", "grpc-timeout": text });
    if (ms === "refused") assert.equal(request.kind, "refused");
    else assert.equal(request.kind === "infer" ? request.timeoutMs : undefined, ms);
  });
}

function brief(request: MissRequest): string {
  if (request.kind === "infer") return `infer ${request.model}`;
  return request.kind === "server" ? `server ${request.what}` : `refused ${request.code}`;
}

const reroutes: [path: string, headers: Record<string, string>, model: string, kept: string][] = [
  ["/v2/models/iris/infer?x=1", {}, "iris", "/v2/models/iris/infer?x=1"],
  ["/v2/models/iris~3/versions/1/infer", {}, "iris", "/v2/models/iris/versions/1/infer"],
  ["/v1/models/iris~12:predict", {}, "iris", "/v1/models/iris:predict"],
  ["/v1/models/iris:predict", {}, "iris", "/v1/models/iris:predict"],
  ["/v1/chat/completions", { "x-warm-model": "smol" }, "smol", "/v1/chat/completions"],
  [infer, { "content-type": "application/grpc", "x-warm-model": "iris" }, "iris", infer],
  [infer, { "content-type": "application/grpc", "x-warm-model": "~set-1-s2", "x-warm-public-name": "iris" }, "iris", infer],
];

for (const [path, more, model, kept] of reroutes) {
  test(`rerouted ${path} ${JSON.stringify(more)} is for ${model}`, () => {
    const request = parseReroute(new Map(Object.entries({ ":path": path, ...more })));
    assert.deepEqual(request.kind === "infer" ? [request.model, request.path] : request, [model, kept]);
  });
}

const rewrites: [path: string, slot: number, expected: string][] = [
  ["/v2/models/iris/infer?x=1", 0, "/v2/models/iris/infer?x=1"],
  ["/v2/models/iris/infer?x=1", 2, "/v2/models/iris~2/infer?x=1"],
  ["/v1/models/iris:predict", 2, "/v1/models/iris~2:predict"],
  ["/v1/models/iris/:predict", 2, "/v1/models/iris~2:predict"],
  ["/v1/chat/completions", 2, "/v1/chat/completions"],
];

for (const [path, slot, expected] of rewrites) {
  test(`${path} goes to slot ${slot} as ${expected}`, () => {
    const answer = reroute(
      1,
      { kind: "infer", model: "iris" as ModelName, wire: "rest", path, timeoutMs: undefined, priority: undefined },
      { cluster: "pod-a", slot, streamsByHeader: false },
    );
    assert.equal(answer.kind, "continue");
    const set = new Map(answer.kind === "continue" ? answer.setHeaders : []);
    assert.deepEqual([set.get(":path"), set.get("x-warm-cluster")], [expected, "pod-a"]);
  });
}

test("a method whose message must name the model is told where", () => {
  const path = "/acme.Scorer/Score";
  const request = {
    kind: "infer",
    model: "iris" as ModelName,
    wire: "grpc",
    path,
    timeoutMs: undefined,
    priority: undefined,
  } as const;
  const to = { cluster: "pod-a", streamsByHeader: false, idInjections: new Map([["acme.Scorer/Score", "3.20"]]) };
  const answer = reroute(1, request, { ...to, slot: 2 });
  const set = new Map(answer.kind === "continue" ? answer.setHeaders : []);
  assert.deepEqual([set.get("x-warm-inject"), set.get("mm-model-id")], ["3.20", "iris~2"]);
  const other = reroute(1, { ...request, path: "/acme.Scorer/Other" }, { ...to, slot: 0 });
  assert.equal(other.kind === "continue" && new Map(other.setHeaders).has("x-warm-inject"), false);
});
