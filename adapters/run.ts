// Owns an adapter's process from its options to its end, with its presence in the registry: the public entry for whoever
// runs one.
import { errorMessage } from "#core/errors.ts";
import { systemClock, untilAborted } from "#platform/clock.ts";
import { describeFlags } from "#platform/config.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { createLog } from "#platform/log.ts";
import { openMetricsServer } from "#platform/metricsserver.ts";
import { createProcessMetrics } from "#platform/processmetrics.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { runPresence } from "#platform/registry/presence.ts";
import { parseRegistryTarget } from "#platform/registry/target.ts";
import { createTracer } from "#platform/telemetry.ts";
import { openPeerIdentity } from "#platform/tls/identity.ts";
import { openAdapter } from "./adapter.ts";
import { createServerParts } from "./drivers/open.ts";
import { collectAdapter, createAdapterMetrics, createMetricsWatch } from "./metrics.ts";
import { adapterFlags, parseAdapterOptions } from "./options.ts";
import { openPullers } from "./pull/open.ts";
import { createUnfetched } from "./pull/unfetched.ts";
import { createTraceWatch, joinWatches } from "./spans.ts";

const presenceTtlMs = 5_000;
/** Containers of a pod are told to end at the same time; a server that ends alone has no drain to wait for. */
const askedWithinMs = 5_000;

/** Runs until the signal is aborted, then drains. */
export async function runAdapter(argv: readonly string[], signal: AbortSignal, stack: AsyncDisposableStack): Promise<void> {
  const options = parseAdapterOptions(argv);
  const { podId, runtime, restAddress, restByGrpc, grpcAddress, labels, formats, capacityBytes, loadConcurrency } = options;
  const log = stack.use(createLog({ service: "adapter", level: options.logLevel })).with({ podId });
  const identity = stack.use(await openPeerIdentity(options, log));
  const registry = stack.use(await openRegistry(parseRegistryTarget(options), log));
  const { otlpEndpoint, otlpProtocol } = options;
  const { tracer } = stack.use(
    await createTracer({ service: "warmpath-adapter", instance: podId, endpoint: otlpEndpoint, protocol: otlpProtocol }),
  );
  const { metricsPort, metricsHost } = options;
  const metrics = createAdapterMetrics({ log, aliases: options.modelmeshMetrics, more: createProcessMetrics() });
  const timed = createMetricsWatch(metrics, () => systemClock.monotonicMs());
  const drained = Promise.withResolvers<void>();
  const untilDrained = async (gone: AbortSignal): Promise<void> => {
    await untilAborted(AbortSignal.any([signal, gone, AbortSignal.timeout(askedWithinMs)]));
    if (!signal.aborted) throw new Error("the adapter has not been asked to stop");
    await Promise.race([drained.promise, untilAborted(gone)]);
  };
  const scraped =
    metricsPort === undefined
      ? undefined
      : stack.use(
          await openMetricsServer({ host: metricsHost, port: metricsPort, untilDrained }, metrics, log).catch(
            (cause: unknown) => {
              throw new StartupError(`cannot tell metrics on ${metricsHost}:${metricsPort}: ${errorMessage(cause)}`, { cause });
            },
          ),
        );
  const metricsAddress = scraped === undefined ? undefined : authority(metricsHost, scraped.port);
  // Only the built-in one knows our mark.
  const absenceByStatus = options.driver !== "onnx";
  const puller = options.serverFetches ? createUnfetched() : await openPullers(options, log, stack);
  const adapter = stack.use(
    await openAdapter({
      pod: { podId, runtime, restAddress, restByGrpc, grpcAddress, labels, formats, absenceByStatus, metricsAddress },
      holding: {
        capacityBytes,
        memoryLimitBytes: options.memoryLimit,
        headroomBytes: options.headroomBytes ?? Math.floor(capacityBytes / 64),
        minAgeMs: options.minAge,
        loadConcurrency,
        serverLimits: options.serverLimits,
      },
      ...createServerParts(options, systemClock),
      puller,
      loadTimeoutMs: options.loadTimeout,
      link: {
        host: options.linkHost,
        port: options.linkPort,
        credentials: identity?.serverCredentials(["gateway"]),
      },
      log,
      watch: options.otlpEndpoint === undefined ? timed : joinWatches(timed, createTraceWatch(tracer, podId)),
    }).catch((cause: unknown) => {
      const where = `${options.linkHost}:${options.linkPort}`;
      throw new StartupError(`cannot listen for gateways on ${where}: ${errorMessage(cause)}`, { cause });
    }),
  );
  const { incarnation, linkPort } = adapter;
  const linkAddress = options.linkAdvertise ?? adapter.linkAddress;
  collectAdapter(metrics, adapter.state);
  // It is present while it serves, though it was asked to stop; the presence ends first, before the Links do.
  const present = new AbortController();
  const presence = runPresence(
    registry,
    { podId, incarnation, linkAddress, runtime },
    { ttlMs: presenceTtlMs, log },
    present.signal,
  );
  stack.defer(async () => {
    present.abort(new Error("the adapter is stopping"));
    await presence;
  });
  process.stdout.write(`${JSON.stringify({ ready: true, linkPort, metricsPort: scraped?.port })}\n`);
  await Promise.race([untilAborted(signal), adapter.ended]);
  if (signal.aborted && options.drain > 0) await Promise.race([adapter.drain(options.drain), adapter.ended]);
  drained.resolve();
}

/** The options, for help. */
export function describeAdapter(): string {
  return describeFlags(adapterFlags);
}

function authority(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
