// Owns Debian's packages that tests need on the machine. One apt at a time: it does not wait for its own locks everywhere,
// and test files run beside each other, and beside whoever else uses the machine.
import { join } from "node:path";
import { holdLock } from "../../cli/setup/lock.mjs";
import { cacheFolder, openCache } from "../../cli/setup/wheels.mjs";
import { run } from "./kept.ts";

/** Somebody else's apt is waited for this long, in seconds. */
const othersLimitSeconds = 600;

/** Does `work` while no other test uses apt. */
export async function withApt<T>(work: (apt: (...args: string[]) => Promise<string>) => Promise<T>, cwd?: string): Promise<T> {
  openCache();
  const lock = await holdLock(() => undefined, join(cacheFolder(), "lock-apt"));
  try {
    return await work(async (...args) => {
      const waiting = [`-oDPkg::Lock::Timeout=${othersLimitSeconds}`, "-oAcquire::Retries=3"];
      return await run("apt-get", [...waiting, ...args], {
        env: { DEBIAN_FRONTEND: "noninteractive" },
        ...(cwd === undefined ? {} : { cwd }),
      });
    });
  } finally {
    lock.release();
  }
}

/** Installs a package with what it needs; refreshes the lists of packages when they are missing or old. */
export async function installPackage(name: string): Promise<void> {
  await withApt(async (apt) => {
    const install = ["install", "--yes", "--no-install-recommends", name];
    await apt(...install).catch(async () => {
      await apt("update");
      await apt(...install);
    });
  });
}
