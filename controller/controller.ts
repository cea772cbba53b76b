// Owns how the controller's parts are put together: copies of the API server's objects and of the registry's records, two
// queues (models, runtimes), and which change concerns what.
//
//   objects, records, pods --changes--> names --queues--> reconcilers --> API server, registry
//
// Invariants: nothing is worked on before every copy is complete; everything is looked at then, so what happened while no
// controller ran is made good; a change of one object costs the names that it concerns, and no more.
import { type Clock, sleep, untilAborted } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { openModelIndex } from "#platform/registry/modelindex.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { createClaims } from "./claims.ts";
import type { KubeClient } from "./engine/client.ts";
import { type KubeObject, list, record, text } from "./engine/objects.ts";
import { createQueue } from "./engine/queue.ts";
import { type ReconcileWatch, runReconcile } from "./engine/reconcile.ts";
import { createReflector, type Reflector } from "./engine/reflector.ts";
import { createRecorder } from "./events.ts";
import type { GatewayClient, PodSeen } from "./gateway.ts";
import {
  clusterServingRuntimes,
  deployments,
  inferenceServices,
  labels,
  manager,
  models,
  pods as podType,
  predictors,
  servingRuntimes,
} from "./kinds.ts";
import type { ControllerFacts, WorkKind } from "./metrics.ts";
import { createFirstLoads } from "./model/loading.ts";
import { createModelReconciler, isOurs } from "./model/reconcile.ts";
import { type Owner, parseInferenceService, parseModelObject, parsePredictor, type Source } from "./model/source.ts";
import type { Endpoints } from "./model/status.ts";
import { createPolicies } from "./policy/run.ts";
import type { RuntimeSettings } from "./runtime/desired.ts";
import { createRuntimeReconciler } from "./runtime/reconcile.ts";
import { createRuntimeRecords } from "./runtime/records.ts";
import { parseRuntime, type Runtime } from "./runtime/runtime.ts";
import type { ScalePolicy } from "./runtime/scale.ts";
import { createUses } from "./uses.ts";

export interface ControllerParts {
  readonly client: KubeClient;
  readonly registry: Registry;
  readonly gateway: GatewayClient;
  readonly settings: RuntimeSettings;
  readonly policy: Omit<ScalePolicy, "least" | "most">;
  readonly maxPodsPerRuntime: number;
  readonly endpoints: Endpoints;
  readonly clusterRuntimes: "ignore" | "read" | "report";
  readonly allowAnyPvc: boolean;
  /** Whether gateways ask callers who they are. */
  readonly callersProve: boolean;
  readonly identity: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Of names at once. */
  readonly workers?: number;
  readonly onSynced?: () => void;
  readonly watch?: (kind: WorkKind) => ReconcileWatch;
  /** Told once how to read what there is now. */
  readonly onCounts?: (read: () => Pick<ControllerFacts, "objects" | "queued">) => void;
}

/** A model at rest is looked at this often; with many models less often, so that gateways are asked at most so many times a second. */
const restMs = 60_000;
const looksPerSecond = 50;
const podsMs = 2_000;

/** Works until the signal is aborted. */
export async function runController(parts: ControllerParts, signal: AbortSignal): Promise<void> {
  const { client, registry, gateway, settings, clock, log } = parts;
  const { namespace } = settings;
  const workers = parts.workers ?? 16;
  const modelQueue = createQueue({ clock });
  const runtimeQueue = createQueue({ clock });
  await using stack = new AsyncDisposableStack();
  const stop = new AbortController();
  const running = AbortSignal.any([signal, stop.signal]);
  const tasks: Promise<void>[] = [];
  stack.defer(async () => {
    stop.abort(new Error("the controller is stopping"));
    await Promise.allSettled(tasks);
  });

  const follow = <T>(
    type: typeof models,
    everywhere: boolean,
    parse: (object: KubeObject) => T | undefined,
    onChange: (key: string, now: T | undefined, before: T | undefined) => void,
    labelSelector?: string,
  ): Reflector<T> => {
    const reflector = createReflector<T>({
      client,
      type,
      namespace: everywhere ? undefined : namespace,
      ...(labelSelector === undefined ? {} : { labelSelector }),
      parse,
      onChange,
      log,
    });
    tasks.push(reflector.run(running));
    return reflector;
  };

  const onSource = (key: string): void => modelQueue.add(nameOf(key));
  const sources: Readonly<Record<Owner, Reflector<Source>>> = {
    isvc: follow(inferenceServices, false, unlessDeleted(parseInferenceService), onSource),
    ksp: follow(predictors, false, unlessDeleted(parsePredictor), onSource),
    model: follow(models, false, unlessDeleted(parseModelObject), onSource),
  };
  const onRuntime = (key: string, now: Runtime | undefined, before: Runtime | undefined): void => {
    runtimeQueue.add(nameOf(key));
    // Which runtime a model goes to depends on all of them, but not on what their status says.
    if (selectsAlike(now, before)) return;
    for (const { store } of Object.values(sources)) for (const source of store.values()) modelQueue.add(source.name);
  };
  const own = follow(servingRuntimes, false, unlessDeleted(parseRuntime), onRuntime);
  const shared =
    parts.clusterRuntimes === "ignore" ? undefined : follow(clusterServingRuntimes, true, unlessDeleted(parseRuntime), onRuntime);
  const policies = createPolicies({
    client,
    registry,
    namespace,
    isEnforced: parts.callersProve,
    clock,
    log,
    watch: parts.watch?.("policy"),
  });
  tasks.push(policies.run(running));
  parts.onCounts?.(() => ({
    objects: {
      inferenceservice: sources.isvc.store.size,
      predictor: sources.ksp.store.size,
      model: sources.model.store.size,
      runtime: own.store.size + (shared?.store.size ?? 0),
      accesspolicy: policies.objects,
    },
    queued: { model: modelQueue.length, runtime: runtimeQueue.length, policy: policies.queued },
  }));
  const managed = `${labels.managedBy}=${manager}`;
  const made = follow<KubeObject>(
    deployments,
    false,
    (object) => object,
    (_key, now, before) => {
      const name = (now ?? before)?.metadata.labels[labels.runtime];
      if (name !== undefined) runtimeQueue.add(name);
    },
    managed,
  );
  const pods = follow<PodTrouble>(
    podType,
    false,
    parsePodTrouble,
    (_key, now, before) => {
      const runtime = (now ?? before)?.runtime;
      if (runtime !== undefined && now?.trouble !== before?.trouble) runtimeQueue.add(runtime);
    },
    managed,
  );

  const records = openModelIndex(registry, { log });
  stack.use(records);
  stack.use(records.onChange((name) => modelQueue.add(name)));
  const runtimeRecords = createRuntimeRecords({ registry, clock, log, onWake: (name) => runtimeQueue.add(name) });
  tasks.push(runtimeRecords.run(running));
  const uses = createUses((runtime) => runtimeQueue.add(runtime));
  const claims = createClaims({ client, namespace, secret: settings.storageSecret, allowAny: parts.allowAnyPvc, uses, clock });
  const loads = createFirstLoads({ gateway, clock, onEnd: (name) => modelQueue.add(name) });
  stack.defer(() => loads.stop());
  const recorder = createRecorder({ client, identity: parts.identity, clock, log });

  let podsSeen: readonly PodSeen[] = [];
  const podsOf = (runtime: string): readonly PodSeen[] =>
    runtime === "" ? podsSeen : podsSeen.filter((pod) => pod.runtime === runtime);
  tasks.push(
    (async (): Promise<void> => {
      while (!running.aborted) {
        const seen = await gateway.pods();
        if (seen !== undefined) {
          // Pods that came bring the models that wait for them.
          const known = new Set(podsSeen.map(({ podId }) => podId));
          const came = new Set(seen.filter(({ podId }) => !known.has(podId)).map(({ runtime }) => runtime));
          podsSeen = seen;
          for (const runtime of came) for (const name of uses.waiting(runtime)) modelQueue.add(name);
        }
        await sleep(podsMs, running).catch(() => undefined);
      }
    })(),
  );

  const all = [...Object.values(sources), own, made, pods, ...(shared === undefined ? [] : [shared])];
  await Promise.race([Promise.all([...all.map(({ synced }) => synced), records.synced]), untilAborted(running)]);
  if (running.aborted) return;

  /** Names that were there at the start and have not been looked at. */
  const unseen = new Set<string>();
  for (const { store } of Object.values(sources)) for (const source of store.values()) unseen.add(source.name);
  for await (const name of ownRecords(records, namespace)) unseen.add(name);
  for (const name of unseen) modelQueue.add(name);
  for (const { store } of [own, ...(shared === undefined ? [] : [shared])])
    for (const runtime of store.values()) runtimeQueue.add(runtime.name);
  for (const deployment of made.store.values()) runtimeQueue.add(runtimeOfDeployment(deployment));
  log.info("everything is known", { models: unseen.size, runtimes: own.store.size + (shared?.store.size ?? 0) });
  parts.onSynced?.();

  const reconcileModel = createModelReconciler({
    client,
    registry,
    records,
    source: (owner, name) => sources[owner].store.get(`${namespace}/${name}`),
    runtimes: function* () {
      yield* own.store.values();
      if (shared !== undefined) yield* shared.store.values();
    },
    gateway,
    loads,
    runtimePods: (runtime) => podsOf(runtime).filter(({ reachable, draining }) => reachable && !draining).length,
    onUse: (name, runtimes, named) => uses.set(name, runtimes, named),
    endpoints: parts.endpoints,
    namespace,
    identity: parts.identity,
    recorder,
    clock,
    log,
    restMs: () => Math.max(restMs, (uses.size / looksPerSecond) * 1_000),
  });
  const reconcileRuntime = createRuntimeReconciler({
    client,
    settings,
    policy: parts.policy,
    maxPodsPerRuntime: parts.maxPodsPerRuntime,
    writeClusterStatus: parts.clusterRuntimes === "report",
    own: (name) => own.store.get(`${namespace}/${name}`),
    shared: (name) => shared?.store.get(name),
    deployment: (name) => made.store.get(`${namespace}/${name}`),
    users: (runtime) => (unseen.size > 0 ? undefined : uses.count(runtime)),
    claims: (runtime, mounted) => claims.of(runtime, mounted),
    pods: podsOf,
    podTrouble: (deployment) => {
      for (const pod of pods.store.values()) if (pod.deployment === deployment && pod.trouble !== undefined) return pod.trouble;
      return undefined;
    },
    records: runtimeRecords,
    recorder,
    clock,
    log,
  });
  await Promise.all([
    runReconcile(
      {
        what: "model",
        queue: modelQueue,
        workers,
        log,
        watch: parts.watch?.("model"),
        async reconcile(name, at) {
          const outcome = await reconcileModel.reconcile(name, at);
          if (unseen.delete(name) && unseen.size === 0)
            for (const { store } of [own, ...(shared === undefined ? [] : [shared])])
              for (const runtime of store.values()) runtimeQueue.add(runtime.name);
          return outcome;
        },
      },
      running,
    ),
    runReconcile(
      {
        what: "runtime",
        queue: runtimeQueue,
        workers: 4,
        log,
        watch: parts.watch?.("runtime"),
        reconcile: (name) => reconcileRuntime.reconcile(name),
      },
      running,
    ),
  ]);

  function runtimeOfDeployment({ metadata }: KubeObject): string {
    return metadata.labels[labels.runtime] ?? metadata.name.slice(settings.serviceName.length + 1);
  }
}

/** An object that somebody's finalizer still holds is gone as far as its user is concerned. */
function unlessDeleted<T>(parse: (object: KubeObject) => T | undefined): (object: KubeObject) => T | undefined {
  return (object) => (object.metadata.deletionTimestamp === undefined ? parse(object) : undefined);
}

/** Those that a controller for this namespace wrote, whether or not their objects are still there. */
async function* ownRecords(
  records: Pick<ReturnType<typeof openModelIndex>, "names" | "get">,
  namespace: string,
): AsyncIterable<string> {
  let after: string | undefined;
  for (let more = true; more; ) {
    const page = await records.names({ after, limit: 1_000 });
    for (const name of page.names) {
      const model = records.get(name);
      if (model !== undefined && isOurs(model, namespace)) yield name;
    }
    after = page.names.at(-1);
    more = page.more && after !== undefined;
  }
}

interface PodTrouble {
  readonly runtime: string;
  readonly deployment: string;
  readonly trouble: string | undefined;
}

/** Only why a pod is not up: the rest of it is nobody's business here. */
function parsePodTrouble({ metadata, body }: KubeObject): PodTrouble | undefined {
  const runtime = metadata.labels[labels.runtime];
  const deployment = metadata.labels[labels.name];
  if (runtime === undefined || deployment === undefined || metadata.deletionTimestamp !== undefined) return undefined;
  const status = record(body["status"]);
  const waiting = [...list(status["initContainerStatuses"]), ...list(status["containerStatuses"])]
    .map(record)
    .map((container) => ({ name: text(container["name"]) ?? "", waiting: record(record(container["state"])["waiting"]) }))
    .find(
      ({ waiting }) =>
        text(waiting["reason"]) !== undefined &&
        waiting["reason"] !== "ContainerCreating" &&
        waiting["reason"] !== "PodInitializing",
    );
  const unscheduled = list(status["conditions"])
    .map(record)
    .find(({ type, status: is }) => type === "PodScheduled" && is === "False");
  const trouble =
    waiting !== undefined
      ? `container ${waiting.name}: ${text(waiting.waiting["reason"]) ?? ""} ${text(waiting.waiting["message"]) ?? ""}`.trim()
      : text(unscheduled?.["message"]);
  return { runtime, deployment, trouble: trouble?.slice(0, 500) };
}

function selectsAlike(one: Runtime | undefined, other: Runtime | undefined): boolean {
  const of = (runtime: Runtime | undefined): string =>
    runtime === undefined
      ? ""
      : JSON.stringify([
          runtime.disabled,
          runtime.multiModel,
          runtime.formats,
          runtime.protocols,
          runtime.faults,
          runtime.createdAt,
        ]);
  return of(one) === of(other);
}

/** `namespace/name` or `name`. */
function nameOf(key: string): string {
  return key.slice(key.indexOf("/") + 1);
}
