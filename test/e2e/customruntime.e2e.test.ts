// A model server that was made for ModelMesh, as it is: driven over its contract on a unix socket, called by a service of its
// own through Envoy. The client names the model in a header; the message that arrives names it where the server says.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openRunFolder } from "#platform/tempdir.ts";
import { type AdapterPod, openAdapterPod } from "../harness/adapterpod.ts";
import { type CustomRuntime, openCustomRuntime, scoreMethod } from "../harness/customruntime.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcClient, openGrpcClient } from "../harness/grpc.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let runtime: CustomRuntime;
let adapter: AdapterPod;
let client: GrpcClient;
let folder: string;

before(async () => {
  runtime = stack.use(await openCustomRuntime());
  folder = stack.use(await openRunFolder()).path;
  fleet = stack.use(await openFleet({ pods: 1 }));
  const { grpcAddress } = runtime;
  const pod = { podId: "custom-0", runtime: "acme", driver: "modelmesh", grpcAddress };
  const flags = { "server-address": runtime.managementAddress, records: join(folder, "copies"), "min-age": "0s" };
  adapter = stack.use(await openAdapterPod(fleet, { ...pod, capacityBytes: 2 ** 30, storageRoot: folder, flags }));
  client = stack.use(await openGrpcClient(fleet.grpcTarget));
  for (const name of ["one", "two", "three"]) await writeFile(join(folder, name), name.toUpperCase());
  for (const name of ["one", "two", "three"]) await fleet.register(name, `file://${join(folder, name)}`, "acme");
});

after(() => stack.disposeAsync());

const field = (number: number, value: Buffer): Buffer => {
  const key = number * 8 + 2;
  return Buffer.concat([
    Buffer.from(key < 128 ? [key] : [(key % 128) + 128, Math.floor(key / 128)]),
    Buffer.from([value.length]),
    value,
  ]);
};
/** Names another model, or none; what it says of the model counts for nothing. */
const message = (payload: string, id?: string): Buffer =>
  Buffer.concat([...(id === undefined ? [] : [field(3, field(20, Buffer.from(id)))]), field(2, Buffer.from(payload))]);

async function score(model: string, body: Buffer): Promise<string> {
  const answer = await client.call(`/${scoreMethod}`, frameOf(body), { "mm-vmodel-id": model });
  assert.equal(answer.status, 0, `${answer.status} ${answer.message}\n${adapter.tail()}`);
  return answer.body.subarray(5).toString();
}

test("cold and warm, whatever the message says of the model, and with none", async () => {
  for (const attempt of ["cold", "warm", "warm"]) {
    assert.equal(await score("one", message("you", "two")), "one says ONE to you", attempt);
    assert.equal(await score("two", message("me")), "two says TWO to me", attempt);
  }
  await waitUntil(
    "it is routed",
    () => fleet.stats(),
    ({ warm }) => warm >= 2,
  );
  const { javascriptRequests } = await fleet.stats();
  assert.equal(await score("one", message("you")), "one says ONE to you");
  assert.equal((await fleet.stats()).javascriptRequests, javascriptRequests, "a hit runs no JavaScript of ours");
});

test("the runtime's own prediction was asked for, and its capacity counts", async () => {
  assert.deepEqual([...new Set(runtime.predicted)].toSorted(), ["one", "two"]);
  const { json } = await fleet.manage("GET", "/api/v1/pods");
  assert.match(JSON.stringify(json), /"podId":"custom-0".*"capacityBytes":10000\b/);
});

test("a model that it forgot is loaded anew, named by the gateway where the server says", async () => {
  runtime.held.clear();
  assert.equal(await score("two", message("me", "one")), "two says TWO to me");
});

test("another revision is named by its slot", async () => {
  await writeFile(join(folder, "three-b"), "THREE-B");
  assert.equal(await score("three", message("all")), "three says THREE to all");
  const added = await fleet.manage("POST", "/api/v1/models/three/revisions?activate=now", {
    format: "acme",
    storageUri: `file://${join(folder, "three-b")}`,
  });
  assert.ok(added.status < 300, added.text);
  await waitUntil(
    "the other revision answers",
    () => score("three", message("all")),
    (said) => said === "three~1 says THREE-B to all",
  );
  runtime.held.clear();
  assert.equal(await score("three", message("all")), "three~1 says THREE-B to all", "rerouted as well");
});
