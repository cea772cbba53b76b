// The protocol against a real Envoy: what it subscribes to, ACKs, refuses, and claims to have when it comes back.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Server } from "@grpc/grpc-js";
import { bindServer, closeServer } from "#platform/grpc.ts";
import { createRecordingLog, waitFor } from "#platform/testing.ts";
import { ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { createXdsHandlers, type XdsAcked, type XdsHandlers, type XdsNacked } from "./server.ts";
import { type ResourceState, typeUrls } from "./session.ts";

const { cluster } = typeUrls;
const table = new Map<string, ResourceState>();
const acked: XdsAcked[] = [];
const nacked: XdsNacked[] = [];
const life: string[] = [];
let folder: string;
let envoy: ChildProcess;
let server: Server;
let xds: XdsHandlers;

/** A cluster; without a connect time Envoy refuses it. */
function set(name: string, version: string, connectMs: number): void {
  const connectTimeout = { nanos: connectMs * 1_000_000 };
  table.set(name, { version, bytes: toBinary(ClusterSchema, create(ClusterSchema, { name, connectTimeout })) });
}

async function serve(): Promise<void> {
  xds = createXdsHandlers({
    view: { get: (typeUrl, name) => (typeUrl === cluster ? table.get(name) : undefined), names: () => table.keys() },
    onAcked: (event) => acked.push(event),
    onNacked: (event) => nacked.push(event),
    onConnected: ({ nodeId }) => life.push(`+${nodeId}`),
    onDisconnected: ({ reason }) => life.push(`-${reason}`),
    log: createRecordingLog(),
  });
  server = new Server();
  xds.addTo(server);
  await bindServer(server, `unix:${join(folder, "ads")}`);
}

/** Where set-up put Envoy; fetched when it did not yet. Set-up is plain JavaScript, so it is asked as a program. */
function pinnedEnvoy(): string {
  const setup = JSON.stringify(new URL("../../cli/setup/envoy.mjs", import.meta.url));
  const script = `import { envoyBinary, envoyIsThere, fetchEnvoy } from ${setup}; if (!envoyIsThere()) await fetchEnvoy(); process.stdout.write(envoyBinary());`;
  const asked = spawnSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8", timeout: 120_000 });
  assert.equal(asked.status, 0, asked.stderr);
  chmodSync(asked.stdout, 0o755);
  return asked.stdout;
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "xds-"));
  const grpc = {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    explicit_http_config: { http2_protocol_options: {} },
  };
  const endpoint = { endpoint: { address: { pipe: { path: join(folder, "ads") } } } };
  const source = { ads: {}, resource_api_version: "V3" };
  const bootstrap = {
    node: { id: "test", cluster: "test" },
    dynamic_resources: {
      cds_config: source,
      ads_config: {
        api_type: "DELTA_GRPC",
        transport_api_version: "V3",
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: "ads" } }],
      },
    },
    static_resources: {
      clusters: [
        {
          name: "ads",
          connect_timeout: "1s",
          typed_extension_protocol_options: { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": grpc },
          load_assignment: { cluster_name: "ads", endpoints: [{ lb_endpoints: [endpoint] }] },
        },
      ],
    },
  };
  writeFileSync(join(folder, "envoy.json"), JSON.stringify(bootstrap));
  for (let index = 0; index < 200; index += 1) set(`c${index}`, "1", 250);
  await serve();
  const options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "off"];
  envoy = spawn(pinnedEnvoy(), ["-c", join(folder, "envoy.json"), ...options], { stdio: "ignore" });
});

after(async () => {
  xds.close();
  if (envoy.exitCode === null) {
    const gone = once(envoy, "exit");
    envoy.kill("SIGKILL");
    await gone;
  }
  await closeServer(server, 200);
  rmSync(folder, { recursive: true });
});

test("Envoy takes a full sync and single changes", async () => {
  await waitFor(() => xds.isLive(cluster, "c199", "1"), { timeoutMs: 20_000 });
  assert.deepEqual(xds.connected(), ["test"]);
  set("c7", "2", 300);
  table.delete("c8");
  xds.notify(cluster, ["c7", "c8"]);
  await waitFor(() => xds.isLive(cluster, "c7", "2") && !xds.isLive(cluster, "c8", "1"));
});

test("one bad resource among many is found, the others go through", async () => {
  const names = Array.from({ length: 64 }, (_, index) => `d${index}`);
  for (const name of names) set(name, "1", name === "d41" ? 0 : 250);
  xds.notify(cluster, names);
  await waitFor(() => xds.refused().length === 1 && names.every((name) => name === "d41" || xds.isLive(cluster, name, "1")));
  assert.equal(xds.refused()[0]?.name, "d41");
  assert.match(xds.refused()[0]?.message ?? "", /connect_?timeout/i);
  assert.ok(nacked.length <= 7, `${nacked.length} refusals`);
  set("d41", "2", 250);
  xds.notify(cluster, ["d41"]);
  await waitFor(() => xds.isLive(cluster, "d41", "2"));
  assert.deepEqual(xds.refused(), []);
});

test("after a reconnect Envoy says what it has and gets only what differs", async () => {
  xds.close();
  await closeServer(server, 200);
  set("c9", "2", 300);
  table.delete("c10");
  set("e", "1", 250);
  acked.length = 0;
  await serve();
  await waitFor(() => xds.isLive(cluster, "c9", "2") && xds.isLive(cluster, "e", "1"), { timeoutMs: 30_000 });
  assert.deepEqual(acked[0]?.resources.length, 263, "what it still had");
  assert.deepEqual(
    acked
      .slice(1)
      .flatMap(({ resources }) => resources.map(({ name }) => name))
      .sort(),
    ["c10", "c9", "e"],
  );
  assert.deepEqual(life, ["+test", "-closed", "+test"]);
});
