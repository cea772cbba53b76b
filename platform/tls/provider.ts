// Owns how gRPC learns of certificates in files, and of their renewal.
import { experimental, type ServerCredentials } from "@grpc/grpc-js";
import type { PemFiles } from "./pems.ts";

/** Tells listeners what the files hold now, and each time they are renewed. */
export function createProvider(files: PemFiles): experimental.CertificateProvider {
  const ca = new Set<(update: { caCertificate: Buffer }) => void>();
  const identities = new Set<(update: { certificate: Buffer; privateKey: Buffer }) => void>();
  const trusted = (): { caCertificate: Buffer } => ({ caCertificate: files.now.ca ?? Buffer.alloc(0) });
  const own = (): { certificate: Buffer; privateKey: Buffer } => ({ certificate: files.now.cert, privateKey: files.now.key });
  files.onRenewed(() => {
    for (const tell of identities) tell(own());
    for (const tell of ca) tell(trusted());
  });
  return {
    addCaCertificateListener(listener) {
      ca.add(listener);
      process.nextTick(() => listener(trusted()));
    },
    removeCaCertificateListener: (listener) => void ca.delete(listener),
    addIdentityCertificateListener(listener) {
      identities.add(listener);
      process.nextTick(() => listener(own()));
    },
    removeIdentityCertificateListener: (listener) => void identities.delete(listener),
  };
}

/** Of a server that takes any client. */
export function createServerCredentials(files: PemFiles): ServerCredentials {
  // The first one is of the server itself, whatever its name in the declaration.
  return experimental.createCertificateProviderServerCredentials(createProvider(files), null, false);
}
