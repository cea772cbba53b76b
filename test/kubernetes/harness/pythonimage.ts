// Owns the Python of this machine as a part of images: model servers in Python run on it.
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { findPython } from "../../../cli/setup/wheels.mjs";
import { run } from "../../harness/kept.ts";
import { hashFile, type Layer, librariesOf, type Part } from "./image.ts";
import { resolverLibraries } from "./images.ts";

export interface PythonImage {
  /** The interpreter, in the image. */
  readonly program: string;
  /** What the image is made of, for the key of its content. */
  readonly content: readonly string[];
  readonly env: readonly string[];
  readonly texts: NonNullable<Layer["texts"]>;
  readonly folders: NonNullable<Layer["folders"]>;
  /** The interpreter under another name. */
  also(to: string): Part;
  /** With the libraries that these programs need beside it; those below `within` lie in the image by themselves. */
  parts(programs: readonly string[], within: string): Promise<readonly Part[]>;
}

const home = "/opt/python";
/** Of its own library: what no model server reads. */
export const unneededOfPython =
  /^(?:site-packages|dist-packages|test|idlelib|lib2to3|ensurepip|tkinter|turtledemo|config-)|(?:^|\/)tests?(?:\/|$)/;

/** What programs find everywhere. */
export function machineFiles(user: string): Required<Pick<Layer, "texts" | "folders">> {
  return {
    texts: [
      { to: "/etc/passwd", text: `root:x:0:0:root:/root:/sbin/nologin\n${user}:x:1000:1000:${user}:/tmp:/sbin/nologin\n` },
      { to: "/etc/nsswitch.conf", text: "hosts: files dns\n" },
    ],
    folders: [{ to: "/tmp", mode: 0o1777 }],
  };
}

/** `user`: its name in the image. */
export async function findPythonImage(user: string): Promise<PythonImage> {
  const asked = "import sys, sysconfig; print(sys._base_executable, sysconfig.get_path('stdlib'))";
  const [executable = "", library = ""] = (await run(findPython(), ["-c", asked])).trim().split(" ");
  const own = globSync("lib-dynload/*.so", { cwd: library }).filter((path) => !path.includes("_tkinter"));
  const program = `${home}/bin/python3`;
  return {
    program,
    content: [executable, library, hashFile(import.meta.filename)],
    env: [`PYTHONHOME=${home}`, "PYTHONDONTWRITEBYTECODE=1", "HOME=/tmp"],
    ...machineFiles(user),
    also: (to) => ({ from: executable, to }),
    parts: async (programs, within) => [
      { from: executable, to: program },
      ...(await librariesOf([executable, ...own.map((path) => join(library, path)), ...programs])).filter(
        ({ from }) => !from.startsWith(within),
      ),
      ...(await resolverLibraries()),
      { from: library, to: `${home}/lib/${basename(library)}`, filter: (path) => !unneededOfPython.test(path), keepsTimes: true },
    ],
  };
}
