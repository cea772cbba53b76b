// Owns the controller's process: flags, signals, the election, where it says that it is alive.
import { hostname } from "node:os";
import { systemClock } from "#platform/clock.ts";
import { runMain } from "#platform/lifecycle.ts";
import { startController } from "./start.ts";

await runMain(
  "controller",
  async (signal, stack) => await startController(process.argv.slice(2), { clock: systemClock, host: hostname() }, signal, stack),
);
