// The bootstrap that is built: Envoy itself accepts it, and it keeps Envoy's PGV rules, whose check is able to refuse.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { create, createRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { buildBootstrap } from "#envoy/bootstrap.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { type Bootstrap, BootstrapSchema } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import { ScaleTimersOverloadActionConfigSchema } from "#proto/gen/envoy/config/overload/v3/overload_pb.ts";
import { HttpGrpcAccessLogConfigSchema } from "#proto/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import { InternalListenerSchema } from "#proto/gen/envoy/extensions/bootstrap/internal_listener/v3/internal_listener_pb.ts";
import { ExtensionWithMatcherSchema } from "#proto/gen/envoy/extensions/common/matching/v3/extension_matcher_pb.ts";
import {
  CompositeSchema,
  ExecuteFilterActionSchema,
} from "#proto/gen/envoy/extensions/filters/http/composite/v3/composite_pb.ts";
import { ExternalProcessorSchema } from "#proto/gen/envoy/extensions/filters/http/ext_proc/v3/ext_proc_pb.ts";
import { GrpcFieldExtractionConfigSchema } from "#proto/gen/envoy/extensions/filters/http/grpc_field_extraction/v3/config_pb.ts";
import { FilterConfigSchema as BridgeSchema } from "#proto/gen/envoy/extensions/filters/http/grpc_http1_reverse_bridge/v3/config_pb.ts";
import { HeaderMutationSchema } from "#proto/gen/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.ts";
import { HealthCheckSchema } from "#proto/gen/envoy/extensions/filters/http/health_check/v3/health_check_pb.ts";
import { LuaSchema } from "#proto/gen/envoy/extensions/filters/http/lua/v3/lua_pb.ts";
import { RouterSchema } from "#proto/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { HeaderMutationSchema as EarlyHeaderMutationSchema } from "#proto/gen/envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation_pb.ts";
import { DownstreamConnectionsConfigSchema } from "#proto/gen/envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections_pb.ts";
import { FixedHeapConfigSchema } from "#proto/gen/envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap_pb.ts";
import { PreviousPrioritiesConfigSchema } from "#proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.ts";
import { HttpProtocolOptionsSchema } from "#proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import { HttpRequestHeaderMatchInputSchema } from "#proto/gen/envoy/type/matcher/v3/http_inputs_pb.ts";
import { createPgvChecker } from "../../xds/pgv/checker.ts";
import { findEnvoy } from "../harness/setup.ts";

/** Everything that the bootstrap holds inside of an Any. */
const registry = createRegistry(
  BridgeSchema,
  CompositeSchema,
  EarlyHeaderMutationSchema,
  ExecuteFilterActionSchema,
  ExtensionWithMatcherSchema,
  ExternalProcessorSchema,
  GrpcFieldExtractionConfigSchema,
  HeaderMutationSchema,
  HealthCheckSchema,
  HttpConnectionManagerSchema,
  HttpGrpcAccessLogConfigSchema,
  HttpProtocolOptionsSchema,
  HttpRequestHeaderMatchInputSchema,
  InternalListenerSchema,
  LuaSchema,
  DownstreamConnectionsConfigSchema,
  FixedHeapConfigSchema,
  PreviousPrioritiesConfigSchema,
  RouterSchema,
  ScaleTimersOverloadActionConfigSchema,
);

function build(folder: string): Bootstrap {
  return buildBootstrap({
    nodeId: "envoy-0",
    adminSocket: join(folder, "admin.sock"),
    gatewaySocket: join(folder, "gateway.sock"),
    http: { host: "127.0.0.1", port: 0 },
    grpc: { host: "127.0.0.1", port: 0 },
    maxMessageBytes: 16 * 2 ** 20,
    maxParkMs: 600_000,
  });
}

test("Envoy accepts the bootstrap", async () => {
  await using folder = await openRunFolder();
  const file = join(folder.path, "envoy.pb");
  writeFileSync(file, toBinary(BootstrapSchema, build(folder.path)));
  const done = spawnSync(await findEnvoy(), ["--mode", "validate", "--config-path", file, "--log-level", "warning"], {
    encoding: "utf8",
    timeout: 30_000,
  });
  assert.equal(done.status, 0, `${done.signal} ${done.stderr} ${done.stdout}`);
  // What Envoy warns of is deprecated or ignored: neither may be in it.
  assert.doesNotMatch(done.stderr, /\[(warning|error|critical)\]/);
});

test("the bootstrap keeps Envoy's PGV rules, in every Any too", () => {
  const bootstrap = build("/run");
  const inside = new Set<string>();
  collectTypes(bootstrap, inside);
  const unknown = [...inside].filter((typeUrl) => registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) === undefined);
  assert.deepEqual(unknown, [], "types that the check does not look into");
  assert.deepEqual(createPgvChecker({ registry }).check(BootstrapSchema, bootstrap), []);
});

test("the check is able to refuse a bootstrap", () => {
  const bootstrap = fromBinary(BootstrapSchema, toBinary(BootstrapSchema, build("/run")));
  const listener = bootstrap.staticResources!.listeners[0]!;
  const any = listener.filterChains[0]!.filters[0]!.configType;
  assert.equal(any.case, "typedConfig");
  const manager = fromBinary(HttpConnectionManagerSchema, any.value.value);
  any.value.value = toBinary(HttpConnectionManagerSchema, create(HttpConnectionManagerSchema, { ...manager, statPrefix: "" }));
  const found = createPgvChecker({ registry }).check(BootstrapSchema, bootstrap);
  assert.equal(found.length, 1, JSON.stringify(found));
  assert.match(found[0]!.path, /stat_prefix$/);
});

/** Type URLs of every Any in the message, at any depth. */
function collectTypes(value: unknown, into: Set<string>): void {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
  if ("$typeName" in value && value.$typeName === "google.protobuf.Any" && "typeUrl" in value && "value" in value) {
    const typeUrl = String(value.typeUrl);
    into.add(typeUrl);
    const schema = registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
    if (schema !== undefined && value.value instanceof Uint8Array) collectTypes(fromBinary(schema, value.value), into);
    return;
  }
  for (const inner of Object.values(value)) collectTypes(inner, into);
}
