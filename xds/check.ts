// Owns the last gate before Envoy: a resource that breaks Envoy's own rules is a fault of ours and is never pushed.
import { createRegistry } from "@bufbuild/protobuf";
import { WarmpathError } from "#core/errors.ts";
import { FilterConfigSchema } from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import { ExtProcPerRouteSchema } from "#proto/gen/envoy/extensions/filters/http/ext_proc/v3/ext_proc_pb.ts";
import { LocalRateLimitSchema } from "#proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts";
import { LuaSchema } from "#proto/gen/envoy/extensions/filters/http/lua/v3/lua_pb.ts";
import { UpstreamCodecSchema } from "#proto/gen/envoy/extensions/filters/http/upstream_codec/v3/upstream_codec_pb.ts";
import { PreviousHostsPredicateSchema } from "#proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.ts";
import { PreviousPrioritiesConfigSchema } from "#proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.ts";
import { HttpProtocolOptionsSchema } from "#proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import { createPgvChecker } from "./pgv/checker.ts";
import type { CheckResource } from "./store.ts";

/** Everything that our resources hold inside of an Any. */
const registry = createRegistry(
  FilterConfigSchema,
  ExtProcPerRouteSchema,
  PreviousHostsPredicateSchema,
  PreviousPrioritiesConfigSchema,
  HttpProtocolOptionsSchema,
  LuaSchema,
  LocalRateLimitSchema,
  UpstreamCodecSchema,
);

export function createResourceCheck(): CheckResource {
  const checker = createPgvChecker({ registry });
  return (schema, message) => {
    const [violation] = checker.check(schema, message);
    if (violation === undefined) return;
    throw new WarmpathError(
      "internal",
      `a ${schema.name} breaks Envoy's rules at ${violation.path}: ${JSON.stringify(violation)}`,
    );
  };
}
