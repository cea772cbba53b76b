// Owns a real Triton for tests: the C++ server with its Python backend, from the wheel of PyTriton. Started empty, in
// explicit model control, with a small model that adds and subtracts.
import { cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { dyingWithParent } from "#cli/up/parentdeath.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import { type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { createRestClient } from "./http.ts";
import { packagesFolder } from "./python.ts";

export interface Triton extends AsyncDisposable {
  /** `host:port` */
  readonly restAddress: string;
  readonly grpcAddress: string;
  readonly repository: string;
  /** addsub/, broken/ (its code throws), missing/ (has no model file) */
  readonly models: string;
  readonly pid: number;
  revive(): Promise<void>;
  kill(): Promise<void>;
  tail(): string;
}

const host = "127.0.0.1";

const config = `backend: "python"
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }, { name: "INPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }, { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU } ]
`;

const code = `import os
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            if a[0] == 666:
                os._exit(1)
            out = [pb_utils.Tensor("OUTPUT0", a + b), pb_utils.Tensor("OUTPUT1", a - b)]
            responses.append(pb_utils.InferenceResponse(output_tensors=out))
        return responses
`;

export async function openTriton(): Promise<Triton> {
  const packages = await packagesFolder("triton", new URL("../servers/triton.txt", import.meta.url).pathname);
  const folder = await openRunFolder();
  const at = (...names: string[]): string => join(folder.path, ...names);
  // Its embedded interpreter looks nowhere else for packages, so numpy goes beside the backend.
  const server = join(packages, "pytriton", "tritonserver");
  const backend = at("backends", "python");
  await mkdir(at("backends"));
  await cp(join(server, "backends", "python"), backend, { recursive: true });
  await cp(
    join(server, "python_backend_stubs", "3.11", "triton_python_backend_stub"),
    join(backend, "triton_python_backend_stub"),
  );
  for (const name of ["numpy", "numpy.libs"]) await symlink(join(packages, name), join(backend, name));
  const repository = at("repository");
  await mkdir(repository);
  await writeModels(at("models"));
  const [restPort = 0, grpcPort = 0] = await findFreePorts(host, 2);
  const restAddress = `${host}:${restPort}`;
  const printed: string[] = [];
  let child: SupervisedProcess;
  const revive = async (): Promise<void> => {
    child = superviseProcess({
      name: "triton",
      ...(await dyingWithParent({
        command: join(server, "bin", "tritonserver"),
        args: [
          `--model-repository=${repository}`,
          `--backend-directory=${at("backends")}`,
          "--model-control-mode=explicit",
          `--http-address=${host}`,
          `--http-port=${restPort}`,
          `--grpc-address=${host}`,
          `--grpc-port=${grpcPort}`,
          "--allow-metrics=false",
          "--exit-timeout-secs=2",
        ],
      })),
      env: { LD_LIBRARY_PATH: join(packages, "nvidia_pytriton.libs") },
      readyProbe: async () => {
        await using client = createRestClient(`http://${restAddress}`);
        return (await client.ask("/v2/health/ready")).status === 200;
      },
      readyTimeoutMs: 60_000,
      restart: { kind: "never" },
      onOutput: (line) => void printed.push(line),
    });
    await child.ready.catch((cause: unknown) => {
      throw new Error(`Triton did not start\n${printed.slice(-20).join("\n")}`, { cause });
    });
  };
  await revive();
  return {
    restAddress,
    grpcAddress: `${host}:${grpcPort}`,
    repository,
    models: at("models"),
    revive,
    get pid() {
      return child.pid ?? 0;
    },
    async kill(): Promise<void> {
      process.kill(child.pid ?? 0, "SIGKILL");
      await child.stop();
    },
    tail: () => printed.slice(-20).join("\n"),
    async [Symbol.asyncDispose](): Promise<void> {
      await child.stop();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function writeModels(folder: string): Promise<void> {
  const files: Readonly<Record<string, string>> = {
    "addsub/config.pbtxt": config,
    "addsub/1/model.py": code,
    "broken/config.pbtxt": config,
    "broken/1/model.py": "raise RuntimeError('no model')\n",
    "missing/config.pbtxt": config,
    "missing/1/readme.md": "no model\n",
  };
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), text);
  }
}
