// Owns a controller in the test's own process, over a real API server, a real registry and a real fleet.

import { type ControllerParts, runController } from "#controller/controller.ts";
import { createKubeClient, type KubeClient } from "#controller/engine/client.ts";
import { createGatewayClient, type GatewayClient } from "#controller/gateway.ts";
import type { RuntimeSettings } from "#controller/runtime/desired.ts";
import { systemClock } from "#platform/clock.ts";
import { openRegistry } from "#platform/registry/open.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { createRecordingLog, type RecordingLog } from "#platform/testing.ts";

export interface TestController extends AsyncDisposable {
  readonly log: RecordingLog;
  readonly client: KubeClient;
  readonly registry: Registry;
  readonly synced: Promise<void>;
  /** Rejects when the controller fails. */
  readonly ended: Promise<void>;
  /** Ends it at once, as far as a process can that goes on. */
  stop(): Promise<void>;
}

export interface ControllerOptions {
  readonly kubeconfig: string;
  readonly registryFile: string;
  readonly gatewayUrl: string;
  readonly namespace?: string;
  readonly change?: (parts: ControllerParts) => ControllerParts;
}

export const testSettings: RuntimeSettings = {
  namespace: "default",
  serviceName: "modelmesh-serving",
  image: "warmpath.test/warmpath:test",
  imagePullPolicy: "Never",
  imagePullSecrets: [],
  registryFlags: ["--registry", "etcd://warmpath-etcd:2379/warmpath"],
  etcdSecret: undefined,
  peerSecret: undefined,
  storageSecret: "storage-config",
  podsPerRuntime: 2,
  serviceAccount: undefined,
  adapterResources: {},
  podLabels: {},
  podAnnotations: {},
  restricted: true,
  logLevel: "info",
  gatewayLabels: { "app.kubernetes.io/component": "gateway" },
  drainSeconds: 15,
};

export async function openController(options: ControllerOptions): Promise<TestController> {
  await using stack = new AsyncDisposableStack();
  const log = createRecordingLog();
  const client = stack.use(createKubeClient(options.kubeconfig));
  const registry = stack.use(await openRegistry({ kind: "embedded", file: options.registryFile }));
  const gateway: GatewayClient = stack.use(createGatewayClient({ urls: [options.gatewayUrl], token: async () => undefined }));
  const synced = Promise.withResolvers<void>();
  const stop = new AbortController();
  const namespace = options.namespace ?? "default";
  const parts: ControllerParts = {
    client,
    registry,
    gateway,
    settings: { ...testSettings, namespace },
    policy: { sleeps: false, graceMs: 60_000, idleMs: 60_000, calmMs: 60_000 },
    maxPodsPerRuntime: 4,
    endpoints: { grpc: `modelmesh-serving.${namespace}:8033`, rest: `modelmesh-serving.${namespace}:8008`, tls: false },
    clusterRuntimes: "report",
    allowAnyPvc: true,
    callersProve: false,
    identity: "test-controller",
    clock: systemClock,
    log,
    onSynced: () => synced.resolve(),
  };
  const ended = runController(options.change?.(parts) ?? parts, stop.signal);
  ended.catch((error: unknown) => synced.reject(error));
  synced.promise.catch(() => undefined);
  stack.defer(async () => {
    stop.abort(new Error("the test is over"));
    await ended.catch(() => undefined);
  });
  const owned = stack.move();
  return {
    log,
    client,
    registry,
    synced: synced.promise,
    ended,
    async stop() {
      stop.abort(new Error("the test stops it"));
      await ended.catch(() => undefined);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
