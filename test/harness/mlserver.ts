// Owns a real MLServer for tests: started empty, with small real models of scikit-learn, LightGBM and XGBoost beside it.
import { cp, mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { dyingWithParent } from "#cli/up/parentdeath.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import { type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { createRestClient } from "./http.ts";
import { environmentPython, scriptFolder } from "./python.ts";

export interface Mlserver extends AsyncDisposable {
  /** `host:port` */
  readonly restAddress: string;
  readonly grpcAddress: string;
  /** What it was started on. */
  readonly root: string;
  /** sklearn/, lightgbm/, xgboost/, broken.joblib */
  readonly models: string;
  readonly answers: Answers;
  readonly pid: number;
  /** Starts it again. */
  revive(): Promise<void>;
  kill(): Promise<void>;
  /** The end of what it printed. */
  tail(): string;
}

export interface Answers {
  readonly rows: readonly (readonly number[])[];
  readonly sklearn: readonly number[];
  readonly lightgbm: readonly number[];
  readonly xgboost: readonly number[];
}

const repository = new URL("../..", import.meta.url).pathname;
const host = "127.0.0.1";

export async function openMlserver(): Promise<Mlserver> {
  const python = await environmentPython("mlserver", join(repository, "test/servers/mlserver.txt"));
  const folder = await openRunFolder();
  const models = join(folder.path, "models");
  await cp(await scriptFolder("mlserver-models", python, join(repository, "test/servers/models.py")), models, {
    recursive: true,
  });
  const root = join(folder.path, "root");
  await mkdir(root);
  const [restPort = 0, grpcPort = 0] = await findFreePorts(host, 2);
  const restAddress = `${host}:${restPort}`;
  const printed: string[] = [];
  let server: SupervisedProcess;
  const revive = async (): Promise<void> => {
    server = superviseProcess({
      name: "mlserver",
      ...(await dyingWithParent({ command: join(dirname(python), "mlserver"), args: ["start", root] })),
      env: {
        MLSERVER_HOST: host,
        MLSERVER_HTTP_PORT: `${restPort}`,
        MLSERVER_GRPC_PORT: `${grpcPort}`,
        MLSERVER_METRICS_ENDPOINT: "",
        MLSERVER_PARALLEL_WORKERS: "0",
        MLSERVER_LOAD_MODELS_AT_STARTUP: "false",
        MLSERVER_DEBUG: "false",
        PYTHONPATH: join(repository, "runtimes/mlserver"),
      },
      readyProbe: async () => {
        await using client = createRestClient(`http://${restAddress}`);
        return (await client.ask("/v2/health/ready")).status === 200;
      },
      readyTimeoutMs: 60_000,
      restart: { kind: "never" },
      onOutput: (line) => void printed.push(line),
    });
    await server.ready.catch((cause: unknown) => {
      throw new Error(`MLServer did not start\n${printed.slice(-20).join("\n")}`, { cause });
    });
  };
  await revive();
  const answers: Answers = JSON.parse(await readFile(join(models, "answers.json"), "utf8"));
  return {
    restAddress,
    grpcAddress: `${host}:${grpcPort}`,
    root,
    models,
    answers,
    revive,
    get pid() {
      return server.pid ?? 0;
    },
    async kill(): Promise<void> {
      process.kill(server.pid ?? 0, "SIGKILL");
      await server.stop();
    },
    tail: () => printed.slice(-20).join("\n"),
    async [Symbol.asyncDispose](): Promise<void> {
      await server.stop();
      await folder[Symbol.asyncDispose]();
    },
  };
}
