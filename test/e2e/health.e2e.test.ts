// gRPC's health check: what load balancers and probes ask, answered by Envoy alone, with any gateway or none.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Client } from "undici";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcAnswer, type GrpcClient, openGrpcClient } from "../harness/grpc.ts";

const check = "/grpc.health.v1.Health/Check";
const serving = frameOf(Uint8Array.of(8, 1));
let fleet: TestFleet;
let grpc: GrpcClient;

before(async () => {
  fleet = await openFleet({ pods: 1 });
  grpc = await openGrpcClient(fleet.grpcTarget);
});

after(async () => {
  await grpc?.[Symbol.asyncDispose]();
  await fleet?.[Symbol.asyncDispose]();
});

/** HealthCheckRequest { service } */
function ask(service: string): Promise<GrpcAnswer> {
  const name = Buffer.from(service);
  return grpc.call(check, frameOf(service === "" ? name : Buffer.concat([Uint8Array.of(10, name.length), name])));
}

for (const service of ["", "inference.GRPCInferenceService"]) {
  test(`${service === "" ? "the server" : service} serves; no gateway is asked, and it counts as no hit`, async () => {
    const { javascriptRequests, hits } = await fleet.stats();
    for (let turn = 0; turn < 20; turn++) {
      const { status, message, body } = await ask(service);
      assert.equal(status, 0, message);
      assert.deepEqual(body, serving);
    }
    const later = await fleet.stats();
    assert.deepEqual([later.javascriptRequests, later.hits], [javascriptRequests, hits]);
  });
}

test("a service that is none is NOT_FOUND, as the protocol wants it", async () => {
  for (const service of ["iris-t0001", "inference", "inference.GRPCInferenceService2", "x".repeat(120)]) {
    const { status, message } = await ask(service);
    assert.equal(status, 5, message);
  }
});

test("with a gateway that stands still it serves, since hits do", async () => {
  const { pid } = fleet.process("gateway");
  assert.ok(pid !== undefined);
  process.kill(pid, "SIGSTOP");
  try {
    assert.deepEqual((await ask("")).body, serving);
  } finally {
    process.kill(pid, "SIGCONT");
  }
});

test("an Envoy whose clients are sent elsewhere does not say that it serves", async () => {
  const admin = new Client("http://envoy", { socketPath: join(fleet.runFolder, "envoy.sock") });
  const tell = async (health: "ok" | "fail"): Promise<void> => {
    const { statusCode, body } = await admin.request({ method: "POST", path: `/healthcheck/${health}` });
    await body.dump();
    assert.equal(statusCode, 200);
  };
  try {
    await tell("fail");
    const { status, body } = await ask("");
    assert.notEqual(status, 0);
    assert.notDeepEqual(body, serving);
    await tell("ok");
    await using own = await openGrpcClient(fleet.grpcTarget);
    assert.deepEqual((await own.call(check, frameOf(new Uint8Array()))).body, serving);
  } finally {
    await tell("ok");
    await admin.destroy();
  }
});
