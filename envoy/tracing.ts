// Owns Envoy's own spans: its OpenTelemetry tracer and the way to the collector. Without an endpoint there is none of it,
// and a request costs what it did.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { duration, packAny } from "#platform/any.ts";
import type { ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type { TypedExtensionConfigSchema } from "#proto/gen/envoy/config/core/v3/extension_pb.ts";
import { OpenTelemetryConfigSchema } from "#proto/gen/envoy/config/trace/v3/opentelemetry_pb.ts";
import type { HttpConnectionManager_TracingSchema } from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { ParentBasedSamplerConfigSchema } from "#proto/gen/envoy/extensions/tracers/opentelemetry/samplers/v3/parent_based_sampler_pb.ts";
import { TraceIdRatioBasedSamplerConfigSchema } from "#proto/gen/envoy/extensions/tracers/opentelemetry/samplers/v3/trace_id_ratio_based_sampler_pb.ts";
import { FractionalPercent_DenominatorType } from "#proto/gen/envoy/type/v3/percent_pb.ts";
import { clusters } from "./names.ts";
import { buildOutsideCluster } from "./outside.ts";

export interface TracingOptions {
  /** `http://host:port`, or https. */
  readonly endpoint: string;
  readonly protocol: "http" | "grpc";
  /** Of requests whose client sent no trace context, the share that is traced: 0 to 1. */
  readonly share: number;
}

const systemAuthorities = "/etc/ssl/certs/ca-certificates.crt";

export function buildTracing({
  endpoint,
  protocol,
  share,
}: TracingOptions): MessageInitShape<typeof HttpConnectionManager_TracingSchema> {
  const target =
    protocol === "grpc"
      ? {
          grpcService: {
            targetSpecifier: { case: "envoyGrpc" as const, value: { clusterName: clusters.otlp } },
            timeout: duration(2_000),
          },
        }
      : {
          httpService: {
            httpUri: {
              uri: `${endpoint.replace(/\/+$/, "")}/v1/traces`,
              httpUpstreamType: { case: "cluster" as const, value: clusters.otlp },
              timeout: duration(2_000),
            },
          },
        };
  return {
    // The sampler decides, and it asks the client's context first: Envoy's own share does not.
    randomSampling: { value: 100 },
    spawnUpstreamSpan: true,
    provider: {
      name: "envoy.tracers.opentelemetry",
      configType: {
        case: "typedConfig",
        value: packAny(OpenTelemetryConfigSchema, { ...target, serviceName: "warmpath-envoy", sampler: samplerOf(share) }),
      },
    },
  };
}

function samplerOf(share: number): MessageInitShape<typeof TypedExtensionConfigSchema> {
  const samplers = "envoy.tracers.opentelemetry.samplers";
  const root = packAny(TraceIdRatioBasedSamplerConfigSchema, {
    samplingPercentage: { numerator: Math.round(share * 1_000_000), denominator: FractionalPercent_DenominatorType.MILLION },
  });
  return {
    name: `${samplers}.parent_based`,
    typedConfig: packAny(ParentBasedSamplerConfigSchema, {
      wrappedSampler: { name: `${samplers}.trace_id_ratio_based`, typedConfig: root },
    }),
  };
}

/** Spans leave after a second, or in packets of fifty: Envoy's own five seconds are long for who looks on. */
export const tracingFlags = { "tracing.opentelemetry.flush_interval_ms": 1_000, "tracing.opentelemetry.min_flush_spans": 50 };

export function buildCollector({ endpoint, protocol }: TracingOptions): MessageInitShape<typeof ClusterSchema> {
  return buildOutsideCluster({
    name: clusters.otlp,
    url: new URL(endpoint),
    caFile: systemAuthorities,
    connectTimeoutMs: 1_000,
    http2: protocol === "grpc",
  });
}
