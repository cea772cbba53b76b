// Owns an image of a real Triton, made without a registry: the C++ server with its Python backend out of PyTriton's wheel, and the
// Python that the backend embeds. It lies as in Triton's own image and goes by its name, so that the chart's runtime runs it as it is.
import { existsSync, globSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { tritonPackages } from "../../harness/triton.ts";
import { hashFile, librariesOf, type Part } from "./image.ts";
import { cachedImage, resolverLibraries } from "./images.ts";
import { machineFiles, unneededOfPython } from "./pythonimage.ts";

/** As the chart's runtime names it. */
const image = "nvcr.io/nvidia/tritonserver:25.02-py3";
const home = "/opt/tritonserver";

export async function buildTritonImage(): Promise<string> {
  const { folder, server, backend, stub, libraries, numpy } = await tritonPackages();
  const library = await embeddedLibrary(stub);
  const brought = [libraries, ...numpy, join(library, "lib-dynload")].flatMap((of) =>
    globSync("**/*.so*", { cwd: of }).map((path) => join(of, path)),
  );
  // The backend starts its processes by bash.
  const shell = ["/bin/sh", "/bin/bash", "/bin/mkdir"];
  const programs = [...shell, server, stub, join(backend, "libtriton_python.so"), ...brought];
  const parts = async (): Promise<readonly Part[]> => [
    ...shell.map((path) => ({ from: path, to: path })),
    ...(await librariesOf(programs)).filter(({ from }) => !from.startsWith(folder)),
    ...(await resolverLibraries()),
    // Where its interpreter looks for it, whatever the environment says.
    { from: library, to: library, filter: (path) => !unneededOfPython.test(path), keepsTimes: true },
  ];
  return await cachedImage(
    "triton",
    [folder, library, hashFile(import.meta.filename)],
    image,
    async () => [
      { ...machineFiles("triton"), parts: await parts() },
      {
        parts: [
          { from: server, to: "/usr/local/bin/tritonserver" },
          { from: libraries, to: `${home}/lib` },
          { from: backend, to: `${home}/backends/python` },
          { from: stub, to: `${home}/backends/python/triton_python_backend_stub` },
          // The interpreter looks nowhere else for packages.
          ...numpy.map((of) => ({ from: of, to: `${home}/backends/python/${basename(of)}`, keepsTimes: true })),
        ],
      },
    ],
    {
      entrypoint: ["/usr/local/bin/tritonserver"],
      workdir: "/tmp",
      user: "1000",
      env: [`LD_LIBRARY_PATH=${home}/lib`, "PYTHONDONTWRITEBYTECODE=1", "HOME=/tmp"],
    },
  );
}

/** Python's own library beside the one that the program is linked with. */
async function embeddedLibrary(stub: string): Promise<string> {
  const python = (await librariesOf([stub])).find(({ from }) => basename(from).startsWith("libpython"));
  const version = /libpython(\d+\.\d+)/.exec(python?.from ?? "")?.[1];
  const places = [dirname(python?.from ?? ""), "/usr/lib"].map((at) => join(at, `python${version}`));
  const found = places.find((at) => existsSync(join(at, "encodings")));
  if (found === undefined) throw new Error(`there is no library of Python for ${stub}`);
  return found;
}
