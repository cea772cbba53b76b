// Owns a gateway's process from its options to its end: the public entry for whoever runs one.
import { sleep, systemClock, untilAborted } from "#platform/clock.ts";
import { describeFlags } from "#platform/config.ts";
import { createLog } from "#platform/log.ts";
import { startGateway } from "./gateway.ts";
import { gatewayOptions, parseGatewayOptions } from "./options.ts";

const drainLookMs = 50;

/** Runs until the signal is aborted, then drains: unready at once, and the end when no request waits or time is up. */
export async function runGateway(argv: readonly string[], signal: AbortSignal, stack: AsyncDisposableStack): Promise<void> {
  const options = parseGatewayOptions(argv);
  const log = stack.use(createLog({ service: "gateway", level: options.logLevel }));
  const gateway = await startGateway(options, log, signal, stack);
  process.stdout.write(
    `${JSON.stringify({ ready: true, adminPort: gateway.adminPort, modelmeshPort: gateway.modelmeshPort })}\n`,
  );
  await untilAborted(signal);
  gateway.drain();
  const deadlineMs = systemClock.monotonicMs() + options.drain;
  while (gateway.waiting > 0 && systemClock.monotonicMs() < deadlineMs) await sleep(drainLookMs);
  if (gateway.waiting > 0) log.warn("requests still wait at the end of the drain", { waiting: gateway.waiting });
}

/** The options, for help. */
export function describeGateway(): string {
  return describeFlags(gatewayOptions);
}
