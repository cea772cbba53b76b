// Owns the lock that keeps two launches from one checkout from setting it up at once. The lock is a file with the
// holder's pid and start time; a holder that is gone has lost it.
import { closeSync, linkSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { SetupError } from "./errors.mjs";
import { makeFolder } from "./folder.mjs";
import { root } from "./root.mjs";

const waitLimitMs = 600_000;

/**
 * Waits until no other launch holds the lock, then holds it.
 * @returns {Promise<{ release(): void }>}
 */
export async function holdLock(onWait = () => undefined, folder = join(root, ".warmpath"), limitMs = waitLimitMs) {
  makeFolder(folder);
  const file = join(folder, "setup.lock");
  const own = `${process.pid} ${startTime(process.pid)}\n`;
  const endMs = performance.now() + limitMs;
  let told = false;
  while (!tryCreate(file, own)) {
    const holder = read(file);
    if (!told && holder !== undefined && isAlive(holder)) {
      told = true;
      onWait(holder.split(" ")[0]);
    }
    if (holder !== undefined && !isAlive(holder)) breakStale(file, holder);
    else if (performance.now() > endMs) {
      throw new SetupError(
        `Another set-up (process ${holder?.split(" ")[0]}) has run for ${limitMs / 60_000} minutes: stop it, then start again.`,
      );
    } else await delay(100);
  }
  const release = () => {
    if (read(file) === own) rmSync(file, { force: true });
  };
  process.on("exit", release);
  return {
    release() {
      process.off("exit", release);
      release();
    },
  };
}

/** Written aside and linked into place, so that nobody reads a lock without its holder. */
function tryCreate(file, own) {
  const aside = `${file}.${process.pid}`;
  const handle = openSync(aside, "w");
  writeSync(handle, own);
  closeSync(handle);
  try {
    linkSync(aside, file);
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    return false;
  } finally {
    rmSync(aside, { force: true });
  }
}

/** Of several that find a stale lock one moves it away; if that one was new already, it is put back. */
function breakStale(file, stale) {
  const aside = `${file}.stale.${process.pid}`;
  try {
    renameSync(file, aside);
    if (readFileSync(aside, "utf8") !== stale) linkSync(aside, file);
  } catch (error) {
    if (error.code !== "ENOENT" && error.code !== "EEXIST") throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

function isAlive(holder) {
  const [pid, start] = holder.trim().split(" ");
  return start !== undefined && startTime(Number(pid)) === start;
}

/** Clock ticks since boot at which a process started; undefined when there is none, or only its remains. */
function startTime(pid) {
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields === undefined || fields[0] === "Z" ? undefined : fields[19];
}
