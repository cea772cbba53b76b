// Runs one adapter beside one model server.
import { hasParentFlag, runMain } from "#platform/lifecycle.ts";
import { runAdapter } from "./run.ts";

const argv = process.argv.slice(2);
await runMain("adapter", (signal, stack) => runAdapter(argv, signal, stack), { exitWithParent: hasParentFlag(argv) });
