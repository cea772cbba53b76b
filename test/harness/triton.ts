// Owns a real Triton for tests: the C++ server with its Python backend, from the wheel of PyTriton. Started empty, in
// explicit model control, with a small model that adds and subtracts.
import { cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { openRunFolder } from "#platform/tempdir.ts";
import { delegate, type ModelServer, openModelServer } from "./modelserver.ts";
import { descendantsOf, livingOf } from "./proc.ts";
import { packagesFolder } from "./python.ts";

export interface Triton extends ModelServer {
  readonly repository: string;
  /** addsub/, subadd/ (the other way round), broken/ (its code throws), large/ (there is no memory for it), missing/ (has no model file) */
  readonly models: string;
}

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

export interface TritonPackages {
  /** Holds all of it. */
  readonly folder: string;
  readonly server: string;
  readonly backend: string;
  /** The backend's process for each model, for the Python of this machine. */
  readonly stub: string;
  /** What all of these load. */
  readonly libraries: string;
  readonly numpy: readonly string[];
}

export async function tritonPackages(): Promise<TritonPackages> {
  const folder = await packagesFolder("triton", new URL("../servers/triton.txt", import.meta.url).pathname);
  const program = join(folder, "pytriton", "tritonserver");
  return {
    folder,
    server: join(program, "bin", "tritonserver"),
    backend: join(program, "backends", "python"),
    stub: join(program, "python_backend_stubs", "3.11", "triton_python_backend_stub"),
    libraries: join(folder, "nvidia_pytriton.libs"),
    numpy: ["numpy", "numpy.libs"].map((name) => join(folder, name)),
  };
}

export async function openTriton(): Promise<Triton> {
  const packages = await tritonPackages();
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openRunFolder());
  const at = (...names: string[]): string => join(folder.path, ...names);
  // Its embedded interpreter looks nowhere else for packages, so numpy goes beside the backend.
  const backend = at("backends", "python");
  await mkdir(at("backends"));
  await cp(packages.backend, backend, { recursive: true });
  await cp(packages.stub, join(backend, "triton_python_backend_stub"));
  for (const folder of packages.numpy) await symlink(folder, join(backend, basename(folder)));
  const repository = at("repository");
  await mkdir(repository);
  await writeTritonModels(at("models"));
  const server = opening.use(
    await openModelServer("triton", ({ host, rest, grpc }) => ({
      command: packages.server,
      args: [
        `--model-repository=${repository}`,
        `--backend-directory=${at("backends")}`,
        "--model-control-mode=explicit",
        `--http-address=${host}`,
        `--http-port=${rest}`,
        `--grpc-address=${host}`,
        `--grpc-port=${grpc}`,
        "--allow-metrics=false",
        "--exit-timeout-secs=2",
      ],
      env: { LD_LIBRARY_PATH: packages.libraries },
    })),
  );
  const opened = opening.move();
  return delegate(server, {
    repository,
    models: at("models"),
    // The processes of its models outlive one that was killed.
    async kill() {
      const models = descendantsOf(server.pid);
      await server.kill();
      for (const { pid } of livingOf(models)) process.kill(pid, "SIGKILL");
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  });
}

export async function writeTritonModels(folder: string): Promise<void> {
  const files: Readonly<Record<string, string>> = {
    "addsub/config.pbtxt": config,
    "addsub/1/model.py": code,
    "subadd/config.pbtxt": config,
    "subadd/1/model.py": code.replace('"OUTPUT0", a + b', '"OUTPUT0", a - b').replace('"OUTPUT1", a - b', '"OUTPUT1", a + b'),
    "broken/config.pbtxt": config,
    "broken/1/model.py": "raise RuntimeError('no model')\n",
    "large/config.pbtxt": config,
    "large/1/model.py": "raise MemoryError('no memory for it')\n",
    "missing/config.pbtxt": config,
    "missing/1/readme.md": "no model\n",
  };
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), text);
  }
}
