// Owns a controller's process from its options to its end: the public entry for whoever runs one. Who leads works, the others
// stand by.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { hostname } from "node:os";
import { systemClock } from "#platform/clock.ts";
import { describeFlags } from "#platform/config.ts";
import { keepHeapSmall } from "#platform/heap.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { createLog, type Log } from "#platform/log.ts";
import type { Scrapable } from "#platform/metrics.ts";
import { answerScrape } from "#platform/metricsserver.ts";
import { createProcessMetrics } from "#platform/processmetrics.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { flagsOfTarget, parseRegistryTarget } from "#platform/registry/target.ts";
import { runController } from "./controller.ts";
import { type ClientOptions, createKubeClient, type KubeClient } from "./engine/client.ts";
import { runLeader } from "./engine/leader.ts";
import { createGatewayClient } from "./gateway.ts";
import { type ControllerFacts, collectController, createControllerMetrics, watchReconciles } from "./metrics.ts";
import { type ControllerOptions, controllerFlags, parseControllerOptions, tokenReader } from "./options.ts";

const nothingYet: Pick<ControllerFacts, "objects" | "queued"> = {
  objects: { inferenceservice: 0, predictor: 0, model: 0, runtime: 0, accesspolicy: 0 },
  queued: { model: 0, runtime: 0, policy: 0 },
};

/** A few of them fit into the time in which the lease must be renewed. */
const leaseCallMs = 5_000;

/** Runs until the signal is aborted; who loses the lease stands by again. */
export async function runControllerProcess(
  argv: readonly string[],
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<void> {
  // It shares its node with what serves.
  keepHeapSmall();
  const clock = systemClock;
  const options = parseControllerOptions(argv);
  const log = stack.use(createLog({ service: "controller", level: options.logLevel }));
  const identity = options.identity ?? `${hostname()}_${randomUUID().slice(0, 8)}`;
  const target = parseRegistryTarget(options);
  const registry = stack.use(await openRegistry(target, log));
  // Its calls wait behind no others of ours.
  const calls = { reads: 0, writes: 0 };
  const election = stack.use(openClient(options.kubeconfig, { deadlineMs: leaseCallMs, counts: calls }));
  const gateway = stack.use(
    createGatewayClient({
      urls: options.gateways,
      token: tokenReader(options.gatewayTokenFile),
      caFile: options.gatewayCa,
    }),
  );
  let state: "standing by" | "leading" = "standing by";
  let isSynced = false;
  process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
  const metrics = createControllerMetrics({ log, more: createProcessMetrics() });
  let counts: () => Pick<ControllerFacts, "objects" | "queued"> = () => nothingYet;
  collectController(metrics, () => ({ isLeading: state === "leading", isSynced, ...calls, ...counts() }));
  if (options.healthPort !== undefined) {
    stack.use(await openHealth(options.healthPort, metrics, log, () => ({ state, isSynced })));
  }
  const flags = options.adapterRegistry ?? Object.entries(flagsOfTarget(target)).flatMap(([flag, value]) => [`--${flag}`, value]);
  await runLeader(
    { client: election, namespace: options.namespace, name: options.leaseName, identity, clock, log },
    async (leading) => {
      await using work = new AsyncDisposableStack();
      const client = work.use(openClient(options.kubeconfig, { counts: calls }));
      // Another may lead soon: what is still being written when the lease is lost ends with it.
      const cut = (): void => void (signal.aborted ? undefined : client[Symbol.asyncDispose]());
      leading.addEventListener("abort", cut, { once: true });
      work.defer(() => {
        state = "standing by";
        isSynced = false;
        counts = () => nothingYet;
      });
      state = "leading";
      await runController(
        {
          client,
          registry,
          gateway,
          settings: settingsOf(options, flags),
          policy: {
            sleeps: options.sleep,
            graceMs: options.scaleToZero ? options.scaleToZeroGrace : Number.POSITIVE_INFINITY,
            idleMs: options.sleepAfter,
            calmMs: options.scaleDownAfter,
          },
          maxPodsPerRuntime: options.maxPodsPerRuntime,
          endpoints: {
            grpc: `${options.serviceName}.${options.namespace}:8033`,
            rest: `${options.serviceName}.${options.namespace}:8008`,
            tls: options.serviceTls,
          },
          clusterRuntimes: options.clusterRuntimes,
          allowAnyPvc: options.allowAnyPvc,
          callersProve: options.callersProve,
          identity,
          clock,
          log,
          onSynced: () => {
            isSynced = true;
          },
          watch: (kind) => watchReconciles(metrics, kind),
          onCounts: (read) => {
            counts = read;
          },
        },
        leading,
      );
    },
    signal,
  );
}

/** The options, for help. */
export function describeController(): string {
  return describeFlags(controllerFlags);
}

function settingsOf(
  options: ControllerOptions,
  registryFlags: readonly string[],
): Parameters<typeof runController>[0]["settings"] {
  const { namespace, serviceName, image, imagePullPolicy, imagePullSecrets, etcdSecret, peerSecret, storageSecret } = options;
  return {
    namespace,
    serviceName,
    image,
    imagePullPolicy,
    imagePullSecrets,
    registryFlags,
    adapterArgs: options.adapterArgs,
    etcdSecret,
    peerSecret,
    storageSecret,
    podsPerRuntime: options.podsPerRuntime,
    serviceAccount: options.runtimeServiceAccount,
    adapterResources: options.adapterResources,
    podLabels: options.podLabels,
    podAnnotations: options.podAnnotations,
    restricted: options.restricted,
    logLevel: options.logLevel,
    gatewayLabels: options.gatewayLabels,
    drainSeconds: options.drainSeconds,
  };
}

function openClient(kubeconfig: string | undefined, more: ClientOptions): KubeClient {
  try {
    return createKubeClient(kubeconfig, more);
  } catch (cause) {
    throw new StartupError("no API server is known: run inside a cluster, or give --kubeconfig FILE", { cause });
  }
}

/** `/healthz`: the process answers. `/readyz`: it leads and knows everything, or stands by. */
async function openHealth(
  port: number,
  metrics: Scrapable,
  log: Log,
  read: () => Readonly<{ state: string; isSynced: boolean }>,
): Promise<AsyncDisposable> {
  const server = createServer((request, response) => {
    const { state, isSynced } = read();
    if (request.url === "/healthz") return response.end("ok\n");
    if (request.url === "/readyz") {
      response.statusCode = state === "leading" && !isSynced ? 503 : 200;
      return response.end(`${state}\n`);
    }
    return answerScrape(request, response, metrics, log);
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", (cause) => reject(new StartupError(`cannot listen on port ${port}`, { cause })));
  server.listen(port, () => resolve());
  await promise;
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      await closed.promise;
    },
  };
}
