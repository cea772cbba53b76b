import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { waitFor } from "#platform/testing.ts";
import { dyingWithParent } from "./parentdeath.ts";

test("a program dies with the process that started it, though that is killed", async () => {
  const { command, args } = await dyingWithParent({ command: "sleep", args: ["60"] });
  const parent = `
    const child = require("node:child_process").spawn(${JSON.stringify(command)}, ${JSON.stringify(args)}, { detached: true });
    console.log(child.pid);
    setInterval(() => undefined, 1000);`;
  const supervisor = spawn(process.execPath, ["--eval", parent], { stdio: ["ignore", "pipe", "inherit"] });
  const [printed] = (await once(supervisor.stdout, "data")) as [Buffer];
  const pid = Number(printed.toString());
  // The tool has made way for the program, under the same pid.
  await waitFor(() => nameOf(pid) === "sleep");
  supervisor.kill("SIGKILL");
  await waitFor(() => nameOf(pid) === undefined);
});

/** Undefined for one that is gone, or dead and not yet collected. */
function nameOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return /^\d+ \((.*)\) [ZX]/.test(stat) ? undefined : /\((.*)\)/.exec(stat)?.[1];
  } catch {
    return undefined;
  }
}
