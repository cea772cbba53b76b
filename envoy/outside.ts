// Owns clusters of servers that are not ours: collectors of traces, issuers of tokens. They are found by DNS and, over https,
// must prove the name in their URL.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { duration, packAny } from "#platform/any.ts";
import { Cluster_DiscoveryType, type ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type { TransportSocketSchema } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import { UpstreamTlsContextSchema } from "#proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { HttpProtocolOptionsSchema } from "#proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";

const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const overHttp2 = {
  upstreamProtocolOptions: {
    case: "explicitHttpConfig" as const,
    value: { protocolConfig: { case: "http2ProtocolOptions" as const, value: {} } },
  },
};

export interface OutsideServer {
  /** Of the cluster. */
  readonly name: string;
  /** Its scheme (http or https), host and port count. */
  readonly url: URL;
  /** PEM authorities; one of them must vouch for it over https. */
  readonly caFile: string;
  readonly connectTimeoutMs: number;
  readonly http2: boolean;
}

export function buildOutsideCluster({
  name,
  url,
  caFile,
  connectTimeoutMs,
  http2,
}: OutsideServer): MessageInitShape<typeof ClusterSchema> {
  const secure = url.protocol === "https:";
  const address = url.hostname.replace(/^\[|\]$/g, "");
  const value = url.port === "" ? (secure ? 443 : 80) : Number(url.port);
  const socketAddress = { address, portSpecifier: { case: "portValue" as const, value } };
  const hostIdentifier = {
    case: "endpoint" as const,
    value: { address: { address: { case: "socketAddress" as const, value: socketAddress } } },
  };
  return {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STRICT_DNS },
    connectTimeout: duration(connectTimeoutMs),
    ...(secure ? { transportSocket: buildClientTls(address, caFile) } : {}),
    ...(http2 ? { typedExtensionProtocolOptions: { [httpOptions]: packAny(HttpProtocolOptionsSchema, overHttp2) } } : {}),
    loadAssignment: { clusterName: name, endpoints: [{ lbEndpoints: [{ hostIdentifier }] }] },
  };
}

function buildClientTls(sni: string, caFile: string): MessageInitShape<typeof TransportSocketSchema> {
  return {
    name: "envoy.transport_sockets.tls",
    configType: {
      case: "typedConfig",
      value: packAny(UpstreamTlsContextSchema, {
        sni,
        autoSniSanValidation: true,
        commonTlsContext: {
          validationContextType: {
            case: "validationContext",
            value: { trustedCa: { specifier: { case: "filename", value: caFile } } },
          },
        },
      }),
    },
  };
}
