// A copy is evicted while a request for it is on its way: the request goes to where the copy is next, twice if need be, and
// then says that it may be asked again; never that there is no such model.
import assert from "node:assert/strict";
import { createServer as createHttp1Server } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { after, before, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { request } from "undici";
import { openRegistry } from "#platform/registry/open.ts";
import { ModelInferRequestSchema, ModelInferResponseSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcClient, inferencePath, openGrpcClient } from "../harness/grpc.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let grpc: GrpcClient;
/** How often the model server still says that it does not hold the model, and how often it was asked. */
let refusals = 0;
let asked = 0;

function isRefused(): boolean {
  asked += 1;
  if (refusals === 0) return false;
  refusals -= 1;
  return true;
}

async function listen(server: Server): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  stack.defer(() => void server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

before(async () => {
  fleet = stack.use(await openFleet({ pods: 1 }));
  const rest = createHttp1Server((incoming, response) => {
    incoming.resume();
    if (isRefused()) response.writeHead(404, { "x-warm-not-here": "1" }).end('{"error":"Model x not found"}');
    else response.writeHead(200, { "content-type": "application/json" }).end('{"model_name":"x"}');
  });
  const http2 = createHttp2Server();
  const sessions = new Set<ServerHttp2Session>();
  http2.on("session", (session) => void sessions.add(session));
  http2.on("stream", (stream: ServerHttp2Stream) => {
    stream.on("error", () => undefined);
    stream.resume();
    const head = { ":status": 200, "content-type": "application/grpc" };
    if (isRefused()) {
      stream.respond(
        { ...head, "grpc-status": "5", "grpc-message": "Model x not found", "x-warm-not-here": "1" },
        { endStream: true },
      );
      return;
    }
    stream.respond(head, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(frameOf(toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, { modelName: "x" }))));
  });
  stack.defer(() => {
    rest.closeAllConnections();
    for (const session of sessions) session.destroy();
  });
  const registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const at = { restAddress: await listen(rest), grpcAddress: await listen(http2) };
  stack.use(await openFakePod({ registry, podId: "any-0", runtime: "any", ...at }));
  await waitUntil(
    "the pod is linked",
    () => fleet.management.linkedPods(),
    (pods) => pods === 2,
  );
  await fleet.register("x", "file:///any", "any");
  grpc = stack.use(await openGrpcClient(fleet.grpcTarget));
  await askRest();
  await waitUntil(
    "it is routed",
    () => fleet.manage("GET", "/api/v1/models/x"),
    ({ text }) => text.includes('"acknowledged":true'),
  );
});

after(() => stack.disposeAsync());

interface Answer {
  readonly status: number | undefined;
  readonly text: string;
  readonly mark: unknown;
  readonly retryAfter: unknown;
}

async function askRest(): Promise<Answer> {
  const { statusCode, headers, body } = await request(`${fleet.restUrl}/v2/models/x/infer`, { method: "POST", body: "{}" });
  const text = await body.text();
  return { status: statusCode, text, mark: headers["x-warm-not-here"], retryAfter: headers["retry-after"] };
}

async function askGrpc(): Promise<Answer> {
  const message = toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName: "x" }));
  const answer = await grpc.call(inferencePath("ModelInfer"), frameOf(message));
  return { status: answer.status, text: answer.message, mark: answer.headers["x-warm-not-here"], retryAfter: undefined };
}

const wires = [
  { wire: "REST", ask: askRest, well: 200, again: 503 },
  { wire: "gRPC", ask: askGrpc, well: 0, again: 14 },
] as const;

for (const { wire, ask, well, again } of wires) {
  for (const times of [0, 1, 2]) {
    test(`${wire}: evicted ${times} times, it is answered`, async () => {
      [refusals, asked] = [times, 0];
      const answer = await ask();
      assert.equal(answer.status, well, answer.text);
      assert.equal(asked, times + 1);
    });
  }

  test(`${wire}: evicted each time, it is refused as unavailable`, async () => {
    [refusals, asked] = [1_000, 0];
    const answer = await ask();
    refusals = 0;
    assert.equal(answer.status, again, answer.text);
    assert.match(answer.text, /evicted again and again/);
    assert.equal(answer.mark, undefined);
    if (wire === "REST") assert.equal(answer.retryAfter, "1");
    assert.equal(asked, 3);
    assert.equal((await ask()).status, well);
  });
}
