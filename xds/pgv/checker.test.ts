// Faults planted in Envoy's own messages, and Envoy itself as the judge of a handful of bootstraps.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create, createRegistry, type DescMessage, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import { BootstrapSchema } from "#proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts";
import { ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import {
  HeaderValueOptionSchema,
  HeaderValueSchema,
  KeyValueAppendSchema,
  MetadataSchema,
} from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import { TypedExtensionConfigSchema } from "#proto/gen/envoy/config/core/v3/extension_pb.ts";
import {
  AlternateProtocolsCacheOptionsSchema,
  UpstreamHttpProtocolOptionsSchema,
} from "#proto/gen/envoy/config/core/v3/protocol_pb.ts";
import {
  InternalRedirectPolicySchema,
  RateLimit_HitsAddendSchema,
  RouteMatchSchema,
  VirtualHostSchema,
} from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import { RouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/route_pb.ts";
import { ScopedRouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/scoped_route_pb.ts";
import { RouterSchema } from "#proto/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { PercentSchema } from "#proto/gen/envoy/type/v3/percent_pb.ts";
import { createPgvChecker } from "./checker.ts";

const checker = createPgvChecker({ registry: createRegistry(HttpConnectionManagerSchema, RouterSchema, ClusterSchema) });

function faults<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): string[] {
  return checker.check(schema, create(schema, init)).map(({ path, rule }) => `${path} ${rule}`);
}

function pack<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): Any {
  return anyPack(schema, create(schema, init));
}

/** A route to a cluster, with what the caller wants otherwise. */
function routes(virtualHost: MessageInitShape<typeof VirtualHostSchema> = {}): MessageInitShape<typeof RouteConfigurationSchema> {
  const route = {
    match: { pathSpecifier: { case: "prefix", value: "/" } },
    action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: "c" } } },
  } as const;
  return { name: "r", virtualHosts: [{ name: "v", domains: ["*"], routes: [route], ...virtualHost }] };
}

const planted: readonly (readonly [string, string[], string[]])[] = [
  ["a valid route configuration", faults(RouteConfigurationSchema, routes()), []],
  [
    "string.min_len, in a list of messages",
    faults(RouteConfigurationSchema, routes({ name: "" })),
    ["virtual_hosts[0].name string.min_len"],
  ],
  [
    "repeated.min_items",
    faults(RouteConfigurationSchema, routes({ domains: [] })),
    ["virtual_hosts[0].domains repeated.min_items"],
  ],
  [
    "a rule on items",
    faults(RouteConfigurationSchema, routes({ domains: ["a", "b\n"] })),
    ["virtual_hosts[0].domains[1] string.well_known_regex"],
  ],
  [
    "several at once, at every depth",
    faults(RouteConfigurationSchema, routes({ name: "", routes: [{}] })),
    [
      "virtual_hosts[0].name string.min_len",
      "virtual_hosts[0].routes[0].action oneof.required",
      "virtual_hosts[0].routes[0].match message.required",
    ],
  ],
  ["oneof.required inside a oneof", faults(RouteMatchSchema, {}), ["path_specifier oneof.required"]],
  [
    "string.pattern in a oneof",
    faults(RouteMatchSchema, { pathSpecifier: { case: "pathSeparatedPrefix", value: "/a/" } }),
    ["path_separated_prefix string.pattern"],
  ],
  [
    "a required member of a oneof that is not the one chosen",
    faults(RouteMatchSchema, { pathSpecifier: { case: "prefix", value: "" } }),
    [],
  ],
  ["a scope without a key", faults(ScopedRouteConfigurationSchema, { name: "s", key: {} }), ["key.fragments repeated.min_items"]],
  [
    "a fragment without a type",
    faults(ScopedRouteConfigurationSchema, { name: "s", key: { fragments: [{}] } }),
    ["key.fragments[0].type oneof.required"],
  ],
  ["double.lte", faults(PercentSchema, { value: 101 }), ["value double.lte"]],
  ["duration.gt", faults(ClusterSchema, { name: "c", connectTimeout: { seconds: 0n } }), ["connect_timeout duration.gt"]],
  [
    "duration.required",
    faults(ClusterSchema, { name: "c", dnsFailureRefreshRate: {} }),
    ["dns_failure_refresh_rate.base_interval duration.required"],
  ],
  ["enum.defined_only", faults(ClusterSchema, { name: "c", lbPolicy: 77 as never }), ["lb_policy enum.defined_only"]],
  [
    "uint32.gte on a wrapper",
    faults(ClusterSchema, { name: "c", lbConfig: { case: "leastRequestLbConfig", value: { choiceCount: 1 } } }),
    ["least_request_lb_config.choice_count uint32.gte"],
  ],
  ["a wrapper that is not set", faults(ClusterSchema, { name: "c", lbConfig: { case: "leastRequestLbConfig", value: {} } }), []],
  [
    "uint32.lt",
    faults(AlternateProtocolsCacheOptionsSchema, { name: "a", prepopulatedEntries: [{ hostname: "h", port: 65_536 }] }),
    ["prepopulated_entries[0].port uint32.lt"],
  ],
  [
    "map keys",
    faults(MetadataSchema, { filterMetadata: { "": {}, good: { any: ["json", 1] } } }),
    [`filter_metadata[""] string.min_len`],
  ],
  ["any.required", faults(TypedExtensionConfigSchema, { name: "x" }), ["typed_config any.required"]],
  [
    "bool.const",
    faults(BootstrapSchema, { statsFlush: { case: "statsFlushOnAdmin", value: false } }),
    ["stats_flush_on_admin bool.const"],
  ],
  ["duration range", faults(BootstrapSchema, { statsFlushInterval: { nanos: 10 } }), ["stats_flush_interval duration.gte"]],
  ["bytes.max_len", faults(HeaderValueSchema, { key: "k", rawValue: new Uint8Array(16_385) }), ["raw_value bytes.max_len"]],
  [
    "string.max_bytes and header value",
    faults(HeaderValueSchema, { key: "k".repeat(16_385), value: "a\0" }),
    ["key string.max_bytes", "value string.well_known_regex"],
  ],
  ["message.skip", faults(KeyValueAppendSchema, { entry: {} }), []],
  ["message.required", faults(HeaderValueOptionSchema, {}), ["header message.required"]],
  ["string.ignore_empty", faults(UpstreamHttpProtocolOptionsSchema, {}), []],
  [
    "string.prefix and suffix",
    faults(RateLimit_HitsAddendSchema, { format: "a" }),
    ["format string.prefix", "format string.suffix"],
  ],
  [
    "repeated.unique and items",
    faults(InternalRedirectPolicySchema, { responseHeadersToCopy: ["a", "a", "b\n"] }),
    ["response_headers_to_copy repeated.unique", "response_headers_to_copy[2] string.well_known_regex"],
  ],
  [
    "repeated.max_items",
    faults(VirtualHostSchema, {
      name: "v",
      domains: ["*"],
      requestHeadersToAdd: Array.from({ length: 1_001 }, () => ({ header: { key: "k" } })),
    }),
    ["request_headers_to_add repeated.max_items"],
  ],
  [
    "inside of Any",
    faults(TypedExtensionConfigSchema, { name: "x", typedConfig: pack(RouterSchema, { strictCheckHeaders: ["nonsense"] }) }),
    ["typed_config.strict_check_headers[0] string.in"],
  ],
  [
    "an Any of an unknown type",
    faults(TypedExtensionConfigSchema, { name: "x", typedConfig: pack(PercentSchema, { value: 101 }) }),
    [],
  ],
  [
    "an Any whose bytes are no message",
    faults(TypedExtensionConfigSchema, {
      name: "x",
      typedConfig: { typeUrl: `type.googleapis.com/${ClusterSchema.typeName}`, value: new Uint8Array([0x0a, 9]) },
    }),
    ["typed_config any.decode"],
  ],
];

for (const [title, found, expected] of planted) test(title, () => assert.deepEqual(found, expected));

test("a violation reads well", () => {
  const [violation] = checker.check(ClusterSchema, create(ClusterSchema, { connectTimeout: {} }));
  assert.deepEqual(violation, { path: "name", rule: "string.min_len", text: "must have at least 1 characters" });
});

type Init<Desc extends DescMessage> = Exclude<MessageInitShape<Desc>, Message>;

function bootstrap(change: {
  readonly cluster?: Init<typeof ClusterSchema>;
  readonly virtualHost?: Init<typeof VirtualHostSchema>;
  readonly manager?: Init<typeof HttpConnectionManagerSchema>;
  readonly router?: Init<typeof RouterSchema>;
  readonly top?: Init<typeof BootstrapSchema>;
}): MessageInitShape<typeof BootstrapSchema> {
  const manager = pack(HttpConnectionManagerSchema, {
    statPrefix: "in",
    routeSpecifier: { case: "routeConfig", value: routes(change.virtualHost) },
    httpFilters: [{ name: "router", configType: { case: "typedConfig", value: pack(RouterSchema, change.router ?? {}) } }],
    ...change.manager,
  });
  const address = {
    address: { case: "socketAddress", value: { address: "127.0.0.1", portSpecifier: { case: "portValue", value: 0 } } },
  } as const;
  return {
    staticResources: {
      listeners: [
        {
          name: "l",
          address,
          filterChains: [{ filters: [{ name: "hcm", configType: { case: "typedConfig", value: manager } }] }],
        },
      ],
      clusters: [{ name: "c", connectTimeout: { seconds: 1n }, ...change.cluster }],
    },
    ...change.top,
  };
}

const judged: Readonly<Record<string, MessageInitShape<typeof BootstrapSchema>>> = {
  "nothing wrong": bootstrap({}),
  "a virtual host without domains": bootstrap({ virtualHost: { domains: [] } }),
  "a header name with a blank": bootstrap({ virtualHost: { requestHeadersToRemove: ["a b"] } }),
  "a loose empty value": bootstrap({ virtualHost: { requestHeadersToAdd: [{ header: { key: "k", value: "" } }] } }),
  "no stat prefix inside of Any": bootstrap({ manager: { statPrefix: "" } }),
  "a router header that does not exist": bootstrap({ router: { strictCheckHeaders: ["nonsense"] } }),
  "a time-out of nothing": bootstrap({ cluster: { connectTimeout: {} } }),
  "a choice of one": bootstrap({
    cluster: { lbPolicy: 1, lbConfig: { case: "leastRequestLbConfig", value: { choiceCount: 1 } } },
  }),
  "flushing too often": bootstrap({ top: { statsFlushInterval: { nanos: 1_000 } } }),
  "an admin flush that is off": bootstrap({ top: { statsFlush: { case: "statsFlushOnAdmin", value: false } } }),
  "a path prefix with a slash at its end": bootstrap({
    virtualHost: {
      routes: [
        {
          match: { pathSpecifier: { case: "pathSeparatedPrefix", value: "/a/" } },
          action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: "c" } } },
        },
      ],
    },
  }),
};

/** Where set-up put Envoy; fetched when it did not yet. Set-up is plain JavaScript, so it is asked as a program. */
function pinnedEnvoy(): string {
  const setup = JSON.stringify(new URL("../../cli/setup/envoy.mjs", import.meta.url));
  const script = `import { envoyBinary, envoyIsThere, fetchEnvoy } from ${setup}; if (!envoyIsThere()) await fetchEnvoy(); process.stdout.write(envoyBinary());`;
  const asked = spawnSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8", timeout: 120_000 });
  assert.equal(asked.status, 0, asked.stderr);
  return asked.stdout;
}

describe("Envoy agrees", () => {
  let folder: string;
  let envoy: string;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "pgv-"));
    envoy = pinnedEnvoy();
    chmodSync(envoy, 0o755);
  });

  after(() => rmSync(folder, { recursive: true }));

  for (const [title, init] of Object.entries(judged)) {
    test(title, () => {
      const message = create(BootstrapSchema, init);
      const file = join(folder, "bootstrap.pb");
      writeFileSync(file, toBinary(BootstrapSchema, message));
      const run = spawnSync(envoy, ["--mode", "validate", "-c", file, "--log-level", "error"], {
        encoding: "utf8",
        timeout: 30_000,
      });
      const found = checker.check(BootstrapSchema, message);
      assert.equal(run.status === 0, found.length === 0, `${JSON.stringify(found)}\n${run.stderr}${run.stdout}`);
      if (run.status !== 0) assert.match(run.stderr, /validation (error|failed)/i);
    });
  }
});
