// Owns the configuration by which TorchServe is started beside an adapter: written into the model store, where the predecessor's
// runtimes wait for it. Whoever starts TorchServe in another way need not look at it.
// https://pytorch.org/serve/configuration.html
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

export interface TorchserveAddresses {
  /** `host:port` of its management API. */
  readonly address: string;
  /** Where requests reach it: `host:port` each. */
  readonly restAddress: string;
  readonly grpcAddress: string;
  /** Its model store. */
  readonly store: string;
}

/** As the predecessor's adapter called it. */
export const configName = "mmconfig.properties";

export async function writeTorchserveConfig(addresses: TorchserveAddresses): Promise<void> {
  const { store } = addresses;
  await mkdir(store, { recursive: true });
  const file = join(store, configName);
  // Whoever waits for it finds it whole.
  await writeFile(`${file}.new`, torchserveConfig(addresses));
  await rename(`${file}.new`, file);
}

/** Environment variables of TorchServe's (`TS_...`) overrule it. */
export function torchserveConfig({ address, restAddress, grpcAddress, store }: TorchserveAddresses): string {
  const [rest, grpc] = [listening(restAddress), listening(grpcAddress)];
  const settings: Readonly<Record<string, string>> = {
    model_store: store,
    inference_address: `http://${rest.host}:${rest.port}`,
    management_address: `http://${address}`,
    // Nobody asks there: the kernel chooses the ports.
    metrics_address: "http://127.0.0.1:0",
    grpc_management_address: "127.0.0.1",
    grpc_management_port: "0",
    grpc_inference_address: grpc.host,
    grpc_inference_port: grpc.port,
    default_workers_per_model: "1",
    // The management API is on loopback, and models come over it alone.
    disable_token_authorization: "true",
    enable_model_api: "true",
    enable_envvars_config: "true",
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}

/** On loopback when that is where it is reached; else on every address, since TorchServe takes none of IPv6. */
function listening(address: string): { readonly host: string; readonly port: string } {
  const { hostname, port } = new URL(`tcp://${address}`);
  return { host: hostname === "localhost" || hostname.startsWith("127.") ? hostname : "0.0.0.0", port };
}
