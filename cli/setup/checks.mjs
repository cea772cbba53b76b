// Owns the conditions on the machine. Each that does not hold is one sentence that says what to do.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { SetupError } from "./errors.mjs";
import { findPython } from "./wheels.mjs";

const loaders = { x64: "/lib64/ld-linux-x86-64.so.2", arm64: "/lib/ld-linux-aarch64.so.1" };

/** What no set-up can change; cheap, so checked at each start. */
export function checkMachine(machine = { platform: process.platform, arch: process.arch, exists: existsSync }) {
  if (machine.platform !== "linux") {
    throw new SetupError(
      `Warmpath runs on Linux, not on ${machine.platform}: use a Linux machine, virtual machine or container.`,
    );
  }
  const loader = loaders[machine.arch];
  if (loader === undefined) {
    throw new SetupError(`Warmpath runs on x64 and arm64 processors, not on ${machine.arch}: use such a machine.`);
  }
  if (!machine.exists(loader)) {
    throw new SetupError(
      `This Linux has no GNU C library (${loader} is missing): use a distribution with glibc, such as Debian, Ubuntu or Fedora.`,
    );
  }
}

/** The tools that only set-up needs. */
export function checkTools() {
  if (spawnSync("npm", ["--version"], { stdio: "ignore" }).status !== 0) {
    throw new SetupError("npm was not found: install it (it comes with Node, or as the package npm).");
  }
  if (spawnSync(findPython(), ["-m", "pip", "--version"], { stdio: "ignore" }).status !== 0) {
    throw new SetupError(
      "Python has no pip: install it (for instance the package python3-pip), or run `python3 -m ensurepip --user`.",
    );
  }
}
