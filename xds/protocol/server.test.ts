import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { Server, type ServiceError, status } from "@grpc/grpc-js";
import { bindServer, closeServer, createClient, type ServiceClient } from "#platform/grpc.ts";
import { createRecordingLog, waitFor } from "#platform/testing.ts";
import { AggregatedDiscoveryService } from "#proto/gen/envoy/service/discovery/v3/ads_pb.ts";
import type { DeltaDiscoveryResponse } from "#proto/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { createXdsHandlers, type XdsAcked, type XdsHandlers, type XdsNacked } from "./server.ts";
import { typeUrls } from "./session.ts";
import { TestEnvoy } from "./testenvoy.ts";

const { cluster, scope } = typeUrls;

describe("the aggregated discovery service", () => {
  let server: Server;
  let client: ServiceClient<typeof AggregatedDiscoveryService>;
  let xds: XdsHandlers;
  let table: Map<string, Map<string, string>>;
  let resourceBytes: Uint8Array;
  let acked: XdsAcked[];
  let nacked: XdsNacked[];
  let life: string[];
  let envoys: TestEnvoy[];

  beforeEach(async () => {
    table = new Map([
      [cluster, new Map([["c", "1"]])],
      [scope, new Map([["s", "1"]])],
    ]);
    resourceBytes = new Uint8Array(10);
    acked = [];
    nacked = [];
    life = [];
    envoys = [];
    xds = createXdsHandlers({
      view: {
        get: (typeUrl, name) => {
          const version = table.get(typeUrl)?.get(name);
          return version === undefined ? undefined : { version, bytes: resourceBytes };
        },
        names: (typeUrl) => table.get(typeUrl)?.keys() ?? [],
      },
      onAcked: (event) => acked.push(event),
      onNacked: (event) => nacked.push(event),
      onConnected: ({ nodeId }) => life.push(`+${nodeId}`),
      onDisconnected: ({ nodeId, reason }) => life.push(`-${nodeId} ${reason}`),
      log: createRecordingLog(),
    });
    server = new Server();
    xds.addTo(server);
    const port = await bindServer(server, "127.0.0.1:0");
    client = createClient(AggregatedDiscoveryService, `127.0.0.1:${port}`);
  });

  afterEach(async () => {
    for (const envoy of envoys) envoy.call.cancel();
    xds.close();
    client[Symbol.dispose]();
    await closeServer(server, 200);
  });

  const connect = (id: string, read = true): TestEnvoy => {
    const envoy = new TestEnvoy(client, read);
    envoys.push(envoy);
    envoy.tell({ node: { id }, typeUrl: scope });
    return envoy;
  };

  const set = (changes: Record<string, string>): void => {
    for (const [name, version] of Object.entries(changes)) table.get(scope)?.set(name, version);
    xds.notify(scope, Object.keys(changes));
  };

  test("serves, hears the ACK, and pushes what changes", async () => {
    const envoy = connect("e");
    envoy.ack(await envoy.response(0));
    await waitFor(() => xds.isLive(scope, "s", "1"));
    const [{ tookMs, ...first } = assert.fail("nothing was acknowledged"), ...more] = acked;
    assert.deepEqual([first, more], [{ nodeId: "e", typeUrl: scope, resources: [{ name: "s", version: "1" }] }, []]);
    assert.ok(tookMs >= 0 && tookMs < 60_000, `${tookMs} ms`);
    set({ s: "2" });
    set({ t: "1" });
    set({ s: "3" });
    const pushed = await envoy.response(1);
    assert.deepEqual(
      pushed.resources.map(({ name, version, resource }) => [name, version, resource?.typeUrl, resource?.value.length]),
      [
        ["s", "3", scope, 10],
        ["t", "1", scope, 10],
      ],
    );
    assert.equal(xds.isLive(scope, "s", "3"), false);
    envoy.ack(pushed);
    await waitFor(() => xds.isLive(scope, "s", "3"));
  });

  test("tells refusals", async () => {
    const envoy = connect("e");
    envoy.ack(await envoy.response(0), "no such thing");
    await waitFor(() => nacked.length === 1);
    assert.deepEqual(nacked, [{ nodeId: "e", typeUrl: scope, names: ["s"], message: "no such thing", final: true }]);
    assert.equal(xds.refused()[0]?.message, "no such thing");
  });

  test("a new stream of the same node replaces the old one; another node has its own", async () => {
    const old = connect("e");
    await old.response(0);
    const other = connect("f");
    await other.response(0);
    const fresh = connect("e");
    fresh.ack(await fresh.response(0));
    await waitFor(() => old.error);
    assert.equal(old.error?.code, status.ABORTED);
    assert.deepEqual(life, ["+e", "+f", "-e replaced", "+e"]);
    assert.equal(xds.isLive(scope, "s", "1"), false);
    other.ack(other.responses[0]!);
    await waitFor(() => xds.isLive(scope, "s", "1"));
    fresh.call.cancel();
    await waitFor(() => life.includes("-e ended"));
    assert.deepEqual(xds.connected(), ["f"]);
    other.call.end();
    await waitFor(() => life.includes("-f ended"));
    assert.equal(xds.isLive(scope, "s", "1"), false);
  });

  test("a stream that does not say who it is is refused", async () => {
    const envoy = new TestEnvoy(client);
    envoy.tell({ typeUrl: scope });
    await waitFor(() => envoy.error);
    assert.equal(envoy.error?.code, status.INVALID_ARGUMENT);
    assert.deepEqual(life, []);
  });

  test("state-of-the-world streams are not served", async () => {
    const call = client.streamAggregatedResources({ timeoutMs: 60_000 });
    const failed = Promise.withResolvers<ServiceError>();
    call.on("error", (error) => failed.resolve(error as ServiceError));
    call.on("data", () => undefined);
    assert.equal((await failed.promise).code, status.UNIMPLEMENTED);
  });

  test("closing tells Envoy to come back later", async () => {
    const envoy = connect("e");
    await envoy.response(0);
    xds.close();
    await waitFor(() => envoy.error);
    assert.equal(envoy.error?.code, status.UNAVAILABLE);
    assert.deepEqual(life, ["+e", "-e closed"]);
  });

  test("an Envoy that does not read holds up a bounded number of bytes, and gets the newest state at last", async () => {
    resourceBytes = new Uint8Array(1024 * 1024);
    for (let index = 0; index < 40; index += 1) table.get(scope)?.set(`n${index}`, "1");
    const envoy = connect("slow", false);
    let gets = 0;
    const inner = table.get(scope)!;
    const get = inner.get.bind(inner);
    inner.get = (name) => {
      gets += 1;
      return get(name);
    };
    await waitFor(() => gets > 0);
    set({ n39: "2" });
    set({ n39: "3" });
    await waitFor(() => xds.connected().length === 1);
    assert.ok(gets < 20, `${gets} resources were taken for a stream that nobody reads`);
    const versions = new Map<string, string>();
    envoy.call.on("data", (response: DeltaDiscoveryResponse) => {
      for (const { name, version } of response.resources) versions.set(name, version);
      envoy.ack(response);
    });
    await waitFor(() => versions.size === 41 && xds.isLive(scope, "n39", "3"));
  });
});
