// Runs one gateway beside one Envoy.
import { hasParentFlag, runMain } from "#platform/lifecycle.ts";
import { runGateway } from "./run.ts";

const argv = process.argv.slice(2);
await runMain("gateway", (signal, stack) => runGateway(argv, signal, stack), { exitWithParent: hasParentFlag(argv) });
