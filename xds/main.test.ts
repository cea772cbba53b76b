import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { Server } from "@grpc/grpc-js";
import { bindServer, closeServer, createClient } from "#platform/grpc.ts";
import { createRecordingLog, waitFor } from "#platform/testing.ts";
import { ScopedRouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/scoped_route_pb.ts";
import { AggregatedDiscoveryService } from "#proto/gen/envoy/service/discovery/v3/ads_pb.ts";
import type { DeltaDiscoveryResponse } from "#proto/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { createXds, type ResourceRef, type Xds } from "./main.ts";
import { TestEnvoy } from "./protocol/testenvoy.ts";
import { typeUrls } from "./typeurls.ts";

const model = "fraud-detector-of-customer-4711";
const principal = "spiffe://example.org/ns/team-a";
const { scope, routes, cluster } = typeUrls;

interface Fixture extends AsyncDisposable {
  readonly xds: Xds;
  readonly acked: string[];
  connect(): TestEnvoy;
}

async function open(auth: boolean): Promise<Fixture> {
  const acked: string[] = [];
  const xds = createXds(
    {
      onAcked: (typeUrl, names) => acked.push(...(typeUrl === scope ? names : [])),
      onRefused: () => undefined,
      mayKeep: (_model, who) => who === principal,
    },
    createRecordingLog(),
    { auth },
  );
  xds.table.setPod({ podId: "a", rest: { host: "127.0.0.1", port: 9_000 }, grpc: { host: "127.0.0.1", port: 9_001 } });
  xds.table.setModel(model, { slot: 0, podIds: ["a"] });
  const server = new Server();
  xds.addTo(server);
  const port = await bindServer(server, "127.0.0.1:0");
  const client = createClient(AggregatedDiscoveryService, `127.0.0.1:${port}`);
  const envoys: TestEnvoy[] = [];
  return {
    xds,
    acked,
    connect() {
      const envoy = new TestEnvoy(client);
      envoys.push(envoy);
      return envoy;
    },
    async [Symbol.asyncDispose]() {
      for (const envoy of envoys) envoy.call.cancel();
      xds.close();
      client[Symbol.dispose]();
      await closeServer(server, 1_000);
    },
  };
}

/** What Envoy was told of the scope with this key: its name and version. */
function scopeOf(envoy: TestEnvoy, ...key: string[]): { readonly name: string; readonly version: string } | undefined {
  for (const { resources } of envoy.responses.filter(({ typeUrl }) => typeUrl === scope)) {
    for (const { name, version, resource } of resources) {
      const found = fromBinary(ScopedRouteConfigurationSchema, resource?.value ?? new Uint8Array());
      assert.equal(found.name, name);
      assert.ok(name.length <= 22, name);
      if (found.key?.fragments.map(({ type }) => type.value).join(" ") === key.join(" ")) return { name, version };
    }
  }
  return undefined;
}

/** Subscribes to everything, and acknowledges whatever comes. */
function follow(envoy: TestEnvoy, initial: Record<string, string> = {}): void {
  const ack = (response: DeltaDiscoveryResponse): void => envoy.ack(response);
  envoy.call.on("data", ack);
  envoy.tell({ node: { id: "e" }, typeUrl: cluster, resourceNamesSubscribe: ["*"] });
  envoy.tell({ typeUrl: scope, resourceNamesSubscribe: ["*"], initialResourceVersions: initial });
}

const removed = (envoy: TestEnvoy): readonly string[] => envoy.responses.flatMap(({ removedResources }) => removedResources);
const isAcked = (xds: Xds): boolean => xds.table.wanted(model).filter(isScope).every(xds.isAcked);
const isScope = ({ typeUrl }: ResourceRef): boolean => typeUrl === scope;

test("a scope with a long name has a short one for Envoy, and its own for everybody else", async () => {
  await using fixture = await open(false);
  const { xds, acked } = fixture;
  const envoy = fixture.connect();
  follow(envoy);
  const told = await waitFor(() => scopeOf(envoy, model));
  await waitFor(() => acked.includes(model) && isAcked(xds));
  assert.ok(xds.table.get(routes, told.version) !== undefined);
  xds.table.setModel(model, undefined);
  await waitFor(() => removed(envoy).includes(told.name) && isAcked(xds));
  assert.equal(acked.filter((name) => name === model).length, 2);
  xds.table.setModel(model, { slot: 0, podIds: ["a"] });
  await waitFor(() => acked.filter((name) => name === model).length === 3 && isAcked(xds));
});

test("an Envoy that comes back keeps what it has by its short name, and drops what nobody knows", async () => {
  await using fixture = await open(false);
  const { xds } = fixture;
  const first = fixture.connect();
  follow(first);
  const told = await waitFor(() => scopeOf(first, model));
  await waitFor(() => isAcked(xds));
  const envoy = fixture.connect();
  follow(envoy, { [told.name]: told.version, "#of-nobody": "x", [model]: told.version });
  await waitFor(() => removed(envoy).includes("#of-nobody") && removed(envoy).includes(model) && isAcked(xds));
  assert.equal(scopeOf(envoy, model), undefined, "it was told again of what it has");
});

test("a gateway that starts anew learns from its Envoy which principals it had let in", async () => {
  await using earlier = await open(true);
  const first = earlier.connect();
  follow(first);
  earlier.xds.table.allow(model, principal);
  earlier.xds.table.allow(model, "somebody-who-may-no-longer");
  const told = await waitFor(() => scopeOf(first, model, principal));
  const over = await waitFor(() => scopeOf(first, model, "somebody-who-may-no-longer"));

  await using later = await open(true);
  const envoy = later.connect();
  follow(envoy, { [told.name]: told.version, [over.name]: over.version, "#a-forged-name-of-it000": told.version });
  await waitFor(() => removed(envoy).includes(over.name) && removed(envoy).includes("#a-forged-name-of-it000"));
  await waitFor(() => isAcked(later.xds));
  assert.equal(later.xds.table.wanted(model).filter(isScope).length, 1);
  assert.ok(!removed(envoy).includes(told.name) && scopeOf(envoy, model, principal) === undefined);
});
