// Runs the controller of a namespace.
import { runMain } from "#platform/lifecycle.ts";
import { runControllerProcess } from "./run.ts";

await runMain("controller", (signal, stack) => runControllerProcess(process.argv.slice(2), signal, stack));
