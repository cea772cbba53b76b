// Runs one adapter beside one model server.
import { hasParentFlag, runMain } from "#platform/lifecycle.ts";
import { startAdapter } from "./start.ts";

const argv = process.argv.slice(2);
await runMain("adapter", (signal, stack) => startAdapter(argv, signal, stack), { exitWithParent: hasParentFlag(argv) });
