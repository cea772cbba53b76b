import assert from "node:assert/strict";
import { test } from "node:test";
import { type MissRequest, parseMiss } from "./request.ts";

function rest(path: string, more: Record<string, string> = {}): MissRequest {
  return parseMiss(new Map(Object.entries({ ":path": path, ":method": "POST", ...more })), []);
}

function grpc(method: string, more: Record<string, string> = {}): MissRequest {
  return parseMiss(new Map(Object.entries({ ":path": method, "content-type": "application/grpc", ...more })), []);
}

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
  ["named by mm-model-id", grpc(infer, { "mm-model-id": "iris" }), "infer iris"],
  ["named by mm-vmodel-id", grpc(infer, { "mm-vmodel-id": "iris" }), "infer iris"],
  ["not named", grpc(infer), "refused invalid-request"],
  ["badly named", grpc(infer, { "mm-model-id": "a/b" }), "refused invalid-name"],
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
