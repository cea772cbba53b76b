// Owns the registry of `warmpath up`: a file in the state folder, an etcd that is started here, or one that is there.
import type { SupervisedProcess } from "#platform/process.ts";
import { superviseProcess } from "#platform/process.ts";
import type { RegistryTarget } from "#platform/registry/target.ts";
import { acceptsAt, buildEtcd } from "./etcd.ts";
import { findFreePorts } from "./ports.ts";
import { type FleetParts, logged } from "./processes.ts";

export interface UpRegistry {
  readonly target: RegistryTarget;
  /** The etcd, when one was started. */
  readonly process: SupervisedProcess | undefined;
}

const host = "127.0.0.1";
const name = "etcd";

/** A started etcd stops with the stack, and keeps its data in the state folder. */
export async function openUpRegistry(parts: Omit<FleetParts, "registry">, stack: AsyncDisposableStack): Promise<UpRegistry> {
  const { options, state } = parts;
  const { registry } = options;
  if (registry === undefined) return { target: { kind: "embedded", file: state.registryFile }, process: undefined };
  if (registry !== "start etcd") return { target: registry, process: undefined };
  // Not the first free ones, which the pods take.
  const [port = 0, peerPort = 0] = (await findFreePorts(host, 2 + 3 * options.pods)).slice(3 * options.pods);
  const program = await buildEtcd({ host, port, peerPort, dataFolder: options.stateFolder });
  const process = stack.use(
    superviseProcess({ name, ...program, readyProbe: () => acceptsAt(host, port), ...logged(name, parts) }),
  );
  await process.ready;
  return { target: { kind: "etcd", hosts: [`${host}:${port}`], prefix: "/warmpath", tls: undefined, login: undefined }, process };
}
