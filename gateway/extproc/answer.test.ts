// What a rerouted request is told to be: under which name, and where in its message that goes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { headers } from "#envoy/names.ts";
import { reroute } from "./answer.ts";
import { parseReroute } from "./request.ts";

const injections = new Map([
  ["inference.GRPCInferenceService/ModelInfer", "1"],
  ["acme.Scorer/Score", "3.20"],
]);

function told(given: Readonly<Record<string, string>>): Record<string, string> {
  const request = parseReroute(new Map(Object.entries(given)));
  assert.ok(request.kind === "infer", JSON.stringify(request));
  const answer = reroute(1, request, { cluster: "pod-1", slot: 2, streamsByHeader: false, idInjections: injections });
  assert.equal(answer.kind, "continue");
  return answer.kind === "continue" ? Object.fromEntries(answer.setHeaders) : {};
}

const grpc = { "content-type": "application/grpc", [headers.model]: "iris" };

test("V2's own message is named where it is read, whatever its runtime says of it", () => {
  const set = told({ ...grpc, ":path": "/inference.GRPCInferenceService/ModelInfer" });
  assert.deepEqual([set[headers.serverName], set[headers.inject], set["mm-model-id"]], ["iris~2", undefined, undefined]);
});

test("another service's is named where its runtime says, and in a header", () => {
  const set = told({ ...grpc, ":path": "/acme.Scorer/Score" });
  assert.deepEqual([set[headers.serverName], set[headers.inject], set["mm-model-id"]], [undefined, "3.20", "iris~2"]);
});

test("over REST the path names it", () => {
  assert.equal(told({ ":path": "/v2/models/iris~1/infer" })[":path"], "/v2/models/iris~2/infer");
});
