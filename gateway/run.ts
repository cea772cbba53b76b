// Owns a gateway's process from its options to its end: the public entry for whoever runs one.
import { sleep, systemClock, untilAborted } from "#platform/clock.ts";
import { describeFlags } from "#platform/config.ts";
import { createLog } from "#platform/log.ts";
import { startGateway } from "./gateway.ts";
import { gatewayOptions, parseGatewayOptions } from "./options.ts";

const drainLookMs = 50;

/**
 * Runs until the signal is aborted, then drains: unready at once, its Envoy asks clients to go elsewhere for as long as is to be
 * lingered, and the end comes when no request waits or time is up.
 */
export async function runGateway(argv: readonly string[], signal: AbortSignal, stack: AsyncDisposableStack): Promise<void> {
  const options = parseGatewayOptions(argv);
  const log = stack.use(createLog({ service: "gateway", level: options.logLevel }));
  const work = endAfterDrain(signal, stack);
  const gateway = await startGateway(options, log, work.signal, stack);
  work.started();
  process.stdout.write(
    `${JSON.stringify({ ready: true, adminPort: gateway.adminPort, modelmeshPort: gateway.modelmeshPort, metricsPort: gateway.metricsPort })}\n`,
  );
  await untilAborted(signal);
  gateway.drain();
  const lingerEndMs = systemClock.monotonicMs() + options.linger;
  const deadlineMs = lingerEndMs + options.drain;
  // Who lingers for clients ends after the Envoy that they call.
  const isNeeded = (): boolean =>
    systemClock.monotonicMs() < lingerEndMs || gateway.waiting > 0 || (options.linger > 0 && gateway.envoyConnected);
  while (isNeeded() && systemClock.monotonicMs() < deadlineMs) await sleep(drainLookMs);
  if (gateway.waiting > 0) log.warn("requests still wait at the end of the drain", { waiting: gateway.waiting });
}

/** The signal of what works on while the gateway drains, such as who may call what: a start is still broken off at once. */
function endAfterDrain(
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): { readonly signal: AbortSignal; readonly started: () => void } {
  const work = new AbortController();
  const end = (): void => work.abort(signal.reason);
  if (signal.aborted) end();
  signal.addEventListener("abort", end, { once: true });
  return {
    signal: work.signal,
    started() {
      signal.removeEventListener("abort", end);
      stack.defer(end);
    },
  };
}

/** The options, for help. */
export function describeGateway(): string {
  return describeFlags(gatewayOptions);
}
