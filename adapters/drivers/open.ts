// Owns which driver an adapter has, as its options say, and what stands beside it.
import { dirname, join } from "node:path";
import type { Clock } from "#platform/clock.ts";
import { UsageError } from "#platform/lifecycle.ts";
import type { Driver } from "./driver.ts";
import { createForeignDriver } from "./foreign.ts";
import type { ForeignServer } from "./foreignserver.ts";
import { createKillMeter, type KillMeter } from "./memory/kills.ts";
import { createProcessMeter } from "./memory/processes.ts";
import { createMlserver } from "./mlserver.ts";
import { createModelmesh } from "./modelmesh.ts";
import type { DriverName } from "./names.ts";
import { createOnnxDriver } from "./onnx.ts";
import { createOpenaiLora } from "./openailora.ts";
import { createOvms } from "./ovms.ts";
import { createRecord } from "./record.ts";
import { createTorchserve } from "./torchserve.ts";
import { createTriton } from "./triton.ts";

export interface DriverOptions {
  readonly driver: DriverName;
  readonly restAddress: string;
  readonly grpcAddress: string;
  readonly adminSocket?: string | undefined;
  /** Where the model server is told to load: `host:port` or `unix:/path`. */
  readonly serverAddress?: string | undefined;
  /** The model server fetches artefacts by itself. */
  readonly serverFetches?: boolean | undefined;
  /** Pull and load together. */
  readonly loadTimeout?: number | undefined;
  /** The folder that the model server reads models from. */
  readonly repository?: string | undefined;
  /** Of OpenVINO Model Server: its configuration file; model_config_list.json beside the repository when absent. */
  readonly ovmsConfig?: string | undefined;
  /** For models, of the machine's memory. */
  readonly capacityBytes: number;
  /** For models, of each accelerator's memory. */
  readonly acceleratorBytes?: number | undefined;
  /** Where the adapter remembers its copies. */
  readonly records?: string | undefined;
}

export interface ServerParts {
  readonly driver: Driver;
  /** Of the model server's processes. */
  readonly kills: KillMeter;
}

export function createServerParts(options: DriverOptions, clock: Clock): ServerParts {
  if (options.acceleratorBytes !== undefined && options.driver !== "triton") {
    throw new UsageError(`--accelerator-bytes is of no use: ${options.driver} does not tell what models take there`);
  }
  if (options.serverFetches === true && options.driver !== "modelmesh") {
    throw new UsageError(`--server-fetches is of no use: ${options.driver} loads what lies on its disk`);
  }
  if (options.driver === "onnx") {
    const adminSocket = need(options, "adminSocket");
    return { driver: createOnnxDriver({ adminSocket, clock }), kills: createKillMeter(`unix:${adminSocket}`) };
  }
  const records = options.records ?? `${need(options, options.repository === undefined ? "records" : "repository")}.copies`;
  const server = createServer(options, options.driver);
  const memory = mute.has(options.driver) ? createProcessMeter(server.address) : undefined;
  const driver = createForeignDriver(server, createRecord(records), {
    clock,
    ...(memory === undefined ? {} : { memory }),
    loadTimeoutMs: slowestLoadMs(options),
  });
  return { driver, kills: createKillMeter(server.address) };
}

/** A load that its caller gave up may go on for so long. */
function slowestLoadMs({ loadTimeout = 0 }: DriverOptions): number {
  return Math.max(300_000, loadTimeout);
}

/** They do not tell what their models take, few of their backends do, or not in time. */
const mute: ReadonlySet<DriverName> = new Set(["mlserver", "triton", "ovms", "torchserve"]);

function createServer(options: DriverOptions, driver: Exclude<DriverName, "onnx">): ForeignServer {
  const { restAddress, grpcAddress, serverAddress } = options;
  switch (driver) {
    case "mlserver":
      return createMlserver({ address: serverAddress ?? restAddress, grpcAddress, root: need(options, "repository") });
    case "triton": {
      const { capacityBytes, acceleratorBytes } = options;
      const budget = acceleratorBytes === undefined ? undefined : { capacityBytes, acceleratorBytes };
      return createTriton({ address: serverAddress ?? grpcAddress, repository: need(options, "repository"), budget });
    }
    case "ovms": {
      const repository = need(options, "repository");
      const configFile = options.ovmsConfig ?? join(dirname(repository), "model_config_list.json");
      return createOvms({
        address: serverAddress ?? restAddress,
        repository,
        configFile,
        reloadTimeoutMs: slowestLoadMs(options),
      });
    }
    case "torchserve": {
      const [address, store] = [need(options, "serverAddress"), need(options, "repository")];
      return createTorchserve({ address, store, restAddress, grpcAddress, processes: createProcessMeter(address) });
    }
    case "openai-lora":
      return createOpenaiLora({ address: serverAddress ?? restAddress });
    case "modelmesh":
      return createModelmesh({ address: need(options, "serverAddress"), fetches: options.serverFetches });
  }
}

const flags = {
  adminSocket: "--admin-socket",
  repository: "--repository",
  records: "--records",
  serverAddress: "--server-address",
} as const;

function need(options: DriverOptions, name: keyof typeof flags): string {
  const value = options[name];
  if (value === undefined) throw new UsageError(`${flags[name]} is needed for the driver ${options.driver}`);
  return value;
}
