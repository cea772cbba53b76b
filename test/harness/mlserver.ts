// Owns a real MLServer for tests, started empty, with real models of scikit-learn, LightGBM and XGBoost beside it.
import { cp, mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { openRunFolder } from "#platform/tempdir.ts";
import { delegate, type ModelServer, openModelServer } from "./modelserver.ts";
import { environmentPython, scriptFolder } from "./python.ts";

export interface Mlserver extends ModelServer {
  /** What it was started on. */
  readonly root: string;
  /** sklearn/, lightgbm/, xgboost/, broken.joblib */
  readonly models: string;
  readonly answers: Answers;
}

export interface Answers {
  readonly rows: readonly (readonly number[])[];
  readonly sklearn: readonly number[];
  readonly lightgbm: readonly number[];
  readonly xgboost: readonly number[];
}

export interface MlserverOptions {
  /** Put before the command, as a wrapper that bounds what the server may take. */
  readonly under?: readonly [command: string, ...args: string[]];
  /** MLServer's own setting, with which it tells whoever asks what its runtimes throw; off when absent. */
  readonly debug?: boolean;
}

const repository = new URL("../..", import.meta.url).pathname;

/** The interpreter of MLServer's environment. */
export async function mlserverPython(): Promise<string> {
  return await environmentPython("mlserver", join(repository, "test/servers/mlserver.txt"));
}

/** A folder with sklearn/, lightgbm/, xgboost/, broken.joblib and answers.json. */
export async function mlserverModels(): Promise<string> {
  return await scriptFolder("mlserver-models", await mlserverPython(), join(repository, "test/servers/models.py"));
}

export async function readAnswers(models: string): Promise<Answers> {
  const answers: Answers = JSON.parse(await readFile(join(models, "answers.json"), "utf8"));
  return answers;
}

export async function openMlserver({ under, debug = false }: MlserverOptions = {}): Promise<Mlserver> {
  const python = await mlserverPython();
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openRunFolder());
  const models = join(folder.path, "models");
  await cp(await mlserverModels(), models, { recursive: true });
  const root = join(folder.path, "root");
  await mkdir(root);
  const [command, ...args] = [...(under ?? []), join(dirname(python), "mlserver"), "start", root];
  const server = opening.use(
    await openModelServer("mlserver", ({ host, rest, grpc }) => ({
      command: command ?? "",
      args,
      env: {
        MLSERVER_HOST: host,
        MLSERVER_HTTP_PORT: `${rest}`,
        MLSERVER_GRPC_PORT: `${grpc}`,
        MLSERVER_METRICS_ENDPOINT: "",
        MLSERVER_PARALLEL_WORKERS: "0",
        MLSERVER_LOAD_MODELS_AT_STARTUP: "false",
        MLSERVER_DEBUG: `${debug}`,
        // A library that cannot get memory for another thread waits for it for ever.
        OMP_NUM_THREADS: "1",
        OPENBLAS_NUM_THREADS: "1",
        PYTHONPATH: join(repository, "runtimes/mlserver"),
      },
    })),
  );
  const answers = await readAnswers(models);
  const opened = opening.move();
  return delegate(server, { root, models, answers, [Symbol.asyncDispose]: () => opened.disposeAsync() });
}
