// Owns a pod of a model server that is not ours: `warmpath adapter` beside a server that runs already, in a real fleet.
import { fileURLToPath } from "node:url";
import { type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import { flagsOfTarget } from "#platform/registry/target.ts";
import type { TestFleet } from "./fleet.ts";
import { waitUntil } from "./wait.ts";

export interface AdapterPodOptions {
  readonly podId: string;
  readonly runtime: string;
  readonly driver: string;
  /** `host:port`; absent: it has gRPC alone. */
  readonly restAddress?: string;
  readonly grpcAddress: string;
  readonly capacityBytes: number;
  /** Outside of it no file: artefact is read. */
  readonly storageRoot: string;
  /** Such as `repository`. */
  readonly flags?: Readonly<Record<string, string | number>>;
}

export interface AdapterPod extends AsyncDisposable {
  readonly process: SupervisedProcess;
  /** The end of what the adapter printed. */
  tail(): string;
}

const entry = fileURLToPath(new URL("../../adapters/main.ts", import.meta.url));

/** Resolves when the fleet's gateway is linked to it. */
export async function openAdapterPod(fleet: TestFleet, options: AdapterPodOptions): Promise<AdapterPod> {
  const { podId, runtime, driver, restAddress, grpcAddress, capacityBytes, storageRoot } = options;
  const flags = {
    "pod-id": podId,
    runtime,
    driver,
    ...(restAddress === undefined ? {} : { "rest-address": restAddress }),
    "grpc-address": grpcAddress,
    "capacity-bytes": capacityBytes,
    "storage-root": storageRoot,
    drain: "0s",
    ...flagsOfTarget(fleet.registry),
    ...options.flags,
  };
  const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`]);
  const printed: string[] = [];
  const linked = await fleet.management.linkedPods();
  const child = superviseProcess({
    name: `${podId}-adapter`,
    command: process.execPath,
    args: [entry, ...args, "--exit-with-parent"],
    readyLine: /"ready":true/,
    readyTimeoutMs: 120_000,
    restart: { kind: "never" },
    onOutput: (line) => void printed.push(line),
  });
  const tail = (): string => printed.slice(-20).join("\n");
  try {
    await child.ready;
    await waitUntil(
      `${podId} is linked`,
      () => fleet.management.linkedPods(),
      (pods) => (pods ?? 0) > (linked ?? 0),
    );
  } catch (cause) {
    await child.stop();
    throw new Error(`the adapter of ${podId} did not start\n${tail()}`, { cause });
  }
  return { process: child, tail, [Symbol.asyncDispose]: () => child.stop() };
}
