// Owns which driver an adapter has, as its options say.
import { dirname, join } from "node:path";
import type { Clock } from "#platform/clock.ts";
import { StartupError } from "#platform/lifecycle.ts";
import type { Driver } from "./driver.ts";
import { createForeignDriver } from "./foreign.ts";
import type { ForeignServer } from "./foreignserver.ts";
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
  /** The folder that the model server reads models from. */
  readonly repository?: string | undefined;
  /** Of OpenVINO Model Server: its configuration file; model_config_list.json beside the repository when absent. */
  readonly ovmsConfig?: string | undefined;
  /** Where the adapter remembers its copies. */
  readonly records?: string | undefined;
}

export function createDriver(options: DriverOptions, clock: Clock): Driver {
  if (options.driver === "onnx") return createOnnxDriver({ adminSocket: need(options, "adminSocket"), clock });
  const records = options.records ?? `${need(options, options.repository === undefined ? "records" : "repository")}.copies`;
  const server = createServer(options, options.driver);
  const memory = mute.has(options.driver) ? createProcessMeter(server.address) : undefined;
  return createForeignDriver(server, createRecord(records), { clock, ...(memory === undefined ? {} : { memory }) });
}

/** They do not tell what their models take, or few of their backends do. */
const mute: ReadonlySet<DriverName> = new Set(["mlserver", "triton", "ovms"]);

function createServer(options: DriverOptions, driver: Exclude<DriverName, "onnx">): ForeignServer {
  const { restAddress, grpcAddress, serverAddress } = options;
  switch (driver) {
    case "mlserver":
      return createMlserver({ address: serverAddress ?? restAddress, root: need(options, "repository") });
    case "triton":
      return createTriton({ address: serverAddress ?? grpcAddress, repository: need(options, "repository") });
    case "ovms": {
      const repository = need(options, "repository");
      const configFile = options.ovmsConfig ?? join(dirname(repository), "model_config_list.json");
      return createOvms({ address: serverAddress ?? restAddress, repository, configFile });
    }
    case "torchserve":
      return createTorchserve({ address: need(options, "serverAddress"), store: need(options, "repository") });
    case "openai-lora":
      return createOpenaiLora({ address: serverAddress ?? restAddress });
    case "modelmesh":
      return createModelmesh({ address: need(options, "serverAddress") });
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
  if (value === undefined) throw new StartupError(`${flags[name]} is needed for the driver ${options.driver}`);
  return value;
}
