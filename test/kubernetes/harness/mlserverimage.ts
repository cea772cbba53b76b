// Owns an image of a real MLServer, made without a registry: the Python of this machine and the environment that tests have of
// MLServer, with what scikit-learn's models need. It goes by the name of MLServer's own image, so that the chart's runtime runs
// it as it is.
import { globSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../harness/kept.ts";
import { mlserverPython } from "../../harness/mlserver.ts";
import { hashFile } from "./image.ts";
import { cachedImage } from "./images.ts";
import { findPythonImage } from "./pythonimage.ts";

/** As the chart's runtime names it. */
const image = "docker.io/seldonio/mlserver:1.7.1";
const packages = "/opt/mlserver";
/** Other kinds of models, what installs packages, and what only tests read. */
const unneeded = /^(?:nvidia|xgboost|lightgbm|onnxruntime|pip|setuptools|pkg_resources)(?:\/|$)|(?:^|\/)tests?(?:\/|$)/;

export async function buildMlserverImage(): Promise<string> {
  const asked = "import sysconfig; print(sysconfig.get_path('purelib'))";
  const site = (await run(await mlserverPython(), ["-c", asked])).trim();
  const python = await findPythonImage("mlserver");
  const { folders, texts, program } = python;
  const brought = globSync("**/*.so*", { cwd: site }).filter((path) => !unneeded.test(path));
  return await cachedImage(
    "mlserver",
    [...python.content, site, hashFile(import.meta.filename)],
    image,
    async () => [
      {
        folders,
        texts,
        parts: await python.parts(
          brought.map((path) => join(site, path)),
          site,
        ),
      },
      { parts: [{ from: site, to: packages, filter: (path) => !unneeded.test(path), keepsTimes: true }] },
    ],
    {
      // As the image of MLServer does it.
      entrypoint: [
        program,
        "-c",
        "import os, sys; from mlserver.cli import main; sys.argv = ['mlserver', 'start', os.environ['MLSERVER_MODELS_DIR']]; main()",
      ],
      // Where it may write.
      workdir: "/tmp",
      user: "1000",
      env: [...python.env, `PYTHONPATH=${packages}`],
    },
  );
}
