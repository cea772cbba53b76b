// Runs one gateway beside one Envoy.
import { untilAborted } from "#platform/clock.ts";
import { runMain } from "#platform/lifecycle.ts";
import { createLog } from "#platform/log.ts";
import { startGateway } from "./gateway.ts";
import { parseGatewayOptions } from "./options.ts";

await runMain(
  "gateway",
  async (signal, stack) => {
    const options = parseGatewayOptions(process.argv.slice(2));
    const log = stack.use(createLog({ service: "gateway", level: options.logLevel }));
    const { adminPort } = await startGateway(options, log, signal, stack);
    process.stdout.write(`${JSON.stringify({ ready: true, adminPort })}\n`);
    await untilAborted(signal);
  },
  { exitWithParent: true },
);
