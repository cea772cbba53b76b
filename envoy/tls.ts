// Owns TLS of the inference ports. Envoy reads certificates itself, as secrets (SDS) from files: no key passes through
// another process, and a renewed file is taken up without dropping a connection.
// Invariant: Envoy watches the folder that a file lies in for things being moved there, as Kubernetes renews a mounted
// secret and as a careful person replaces a file; a file that is written over in place is not noticed.
import { dirname } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { packAny } from "#platform/any.ts";
import type { DataSourceSchema, TransportSocketSchema } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import { ApiVersion } from "#proto/gen/envoy/config/core/v3/config_source_pb.ts";
import { TlsParameters_TlsProtocol } from "#proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts";
import { type SdsSecretConfigSchema, SecretSchema } from "#proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import { DownstreamTlsContextSchema } from "#proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { type DiscoveryResponse, DiscoveryResponseSchema } from "#proto/gen/envoy/service/discovery/v3/discovery_pb.ts";

/** Absolute paths of PEM files, as Envoy sees them. */
export interface PortTls {
  readonly certFile: string;
  readonly keyFile: string;
  /** With it, clients must prove themselves to one of these authorities. */
  readonly clientCaFile?: string | undefined;
  /** The same ports answer plain text, too: for clients that cannot be changed. Without `clientCaFile`. */
  readonly plainText?: boolean | undefined;
  /** Where the files of buildSecrets lie. */
  readonly secretsFolder: string;
}

const serverSecret = "warm-server";
const clientCaSecret = "warm-client-ca";

/** What is to be written beside the bootstrap, by file name. */
export function buildSecrets(tls: PortTls): ReadonlyMap<string, DiscoveryResponse> {
  const server = secretFile({
    name: serverSecret,
    type: {
      case: "tlsCertificate",
      value: {
        certificateChain: file(tls.certFile),
        privateKey: file(tls.keyFile),
        watchedDirectory: { path: dirname(tls.certFile) },
      },
    },
  });
  const files = new Map([[fileName(serverSecret), server]]);
  if (tls.clientCaFile === undefined) return files;
  const clientCa = secretFile({
    name: clientCaSecret,
    type: {
      case: "validationContext",
      value: { trustedCa: file(tls.clientCaFile), watchedDirectory: { path: dirname(tls.clientCaFile) } },
    },
  });
  return files.set(fileName(clientCaSecret), clientCa);
}

export function buildTlsSocket(tls: PortTls): MessageInitShape<typeof TransportSocketSchema> {
  const mutual = tls.clientCaFile !== undefined;
  return {
    name: "envoy.transport_sockets.tls",
    configType: {
      case: "typedConfig",
      value: packAny(DownstreamTlsContextSchema, {
        requireClientCertificate: mutual,
        commonTlsContext: {
          tlsParams: { tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_2 },
          alpnProtocols: ["h2", "http/1.1"],
          tlsCertificateSdsSecretConfigs: [fromFile(tls, serverSecret)],
          ...(mutual
            ? { validationContextType: { case: "validationContextSdsSecretConfig", value: fromFile(tls, clientCaSecret) } }
            : {}),
        },
      }),
    },
  };
}

function fileName(secret: string): string {
  return `${secret}.pb`;
}

function fromFile(tls: PortTls, secret: string): MessageInitShape<typeof SdsSecretConfigSchema> {
  return {
    name: secret,
    sdsConfig: {
      configSourceSpecifier: { case: "pathConfigSource", value: { path: `${tls.secretsFolder}/${fileName(secret)}` } },
      resourceApiVersion: ApiVersion.V3,
    },
  };
}

function file(path: string): MessageInitShape<typeof DataSourceSchema> {
  return { specifier: { case: "filename", value: path } };
}

function secretFile(secret: MessageInitShape<typeof SecretSchema>): DiscoveryResponse {
  return create(DiscoveryResponseSchema, { resources: [packAny(SecretSchema, secret)] });
}
