// Owns the table: what Envoy should hold, kept from changes of pods and models. It is the only writer of it.
// Invariants: the cost of a change does not grow with the number of models; a scope names only sets whose clusters and
// routes are in the table; scopes are not stored but encoded when they are sent, and their content is their version.
import type { Patience } from "#core/patience.ts";
import type { QuotaRules } from "#core/quota.ts";
import { buildClaim, buildKeys, type KnownKey } from "#envoy/auth.ts";
import { buildLimit } from "#envoy/limit.ts";
import { entryPrincipal, filters, runtimeLayer, serverScope } from "#envoy/names.ts";
import { type Cluster, ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { TypedExtensionConfigSchema } from "#proto/gen/envoy/config/core/v3/extension_pb.ts";
import { RouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/route_pb.ts";
import { RuntimeSchema } from "#proto/gen/envoy/service/runtime/v3/rtds_pb.ts";
import { createPrincipals, parseScopeName } from "./principals.ts";
import { buildLastCluster, buildPodCluster } from "./resources/cluster.ts";
import { buildRuntime } from "./resources/runtime.ts";
import { encodeScope } from "./resources/scope.ts";
import { buildServerRoutes, serverRoutesName } from "./resources/server.ts";
import {
  buildSet,
  clusterName,
  entryName,
  type Leg,
  type LegShare,
  type Plan,
  type PodAddress,
  planLegs,
  routesName,
} from "./resources/set.ts";
import { shortScopeName } from "./scopenames.ts";
import { createSetBook, type PlanEntry, wires } from "./sets.ts";
import { type CheckResource, createResourceStore, type EncodedResource, type OnChange } from "./store.ts";
import { typeUrls } from "./typeurls.ts";

/** The pods that hold a revision ready, and its slot. */
export interface RouteLeg {
  readonly slot: number;
  readonly podIds: readonly string[];
}

/** A part of the requests that another revision takes. */
export interface RouteShare extends RouteLeg {
  /** 1 to 100. */
  readonly percent: number;
}

/** Where a model's requests go: to the active revision, but for what the shares take. */
export interface RouteTarget extends RouteLeg {
  /** 100 percent in all at most. */
  readonly split?: readonly RouteShare[];
  /** Gets copies of so many requests. */
  readonly mirror?: RouteShare | undefined;
  /** How long a pod may say nothing before the gateway is asked; the shortest when it is not given. */
  readonly patience?: Patience;
}

/** A resource at a version; `version` undefined: not there. */
export interface ResourceRef {
  readonly typeUrl: string;
  readonly name: string;
  readonly version: string | undefined;
}

export interface RouteTable {
  get(typeUrl: string, name: string): EncodedResource | undefined;
  names(typeUrl: string): Iterable<string>;
  /** The route configuration that a scope names. */
  needs(typeUrl: string, name: string): { readonly typeUrl: string; readonly name: string } | undefined;
  /** True: the pod was known as something else, and the models that it held lose it. */
  setPod(pod: PodAddress): boolean;
  /** The models that the pod held lose it; with their last pod they lose their scope. */
  removePod(podId: string): void;
  /**
   * Pods that the table does not know are passed over. Without any pod left the model has no scope; a share or mirror
   * without one is left out, so that its requests go to the active revision.
   */
  setModel(name: string, target: RouteTarget | undefined): void;
  setUsageSample(millionths: number): void;
  /** The scope key by which a request that has waited reaches this pod; undefined when the table does not know the pod. */
  entry(podId: string, slot: number): string | undefined;
  /** Ids of the pods of the set that this cluster is of; undefined when no such set is in use. */
  podsOf(cluster: string): readonly string[] | undefined;
  /** Whether what is sent to this cluster, of a set in use, reaches its pods as they are now. */
  isCurrent(cluster: string): boolean;
  /** All that Envoy must have, at these versions, before it treats the model or entry of this name as this table does. */
  wanted(name: string): readonly ResourceRef[];
  /** Takes out sets that no model has used for two sweeps, when Envoy is done with their scopes. */
  sweep(isAcked: (ref: ResourceRef) => boolean): void;
  has(model: string): boolean;
  /** Where callers prove who they are: requests of this principal for this model are hits from now on, while it is warm. */
  allow(model: string, principal: string): void;
  /** They no longer are, for those that are not to be kept; all models when none is named. */
  review(keep: (model: string, principal: string) => boolean, model?: string): void;
  /** Scopes that Envoy still has from a gateway before this one; `keep` says who may have them. */
  adopt(scopes: Iterable<string>, keep: (model: string, principal: string) => boolean): void;
  /**
   * What the filters know that find out who calls. `closed`: nothing is open to who has proved nothing; it is the last of them
   * that turns such callers away.
   */
  setCallers(callers: { readonly keys: Iterable<KnownKey>; readonly closed: boolean; readonly tokens: boolean }): void;
  /** What the limit filter knows, where callers prove who they are. */
  setQuotas(rules: QuotaRules): void;
  readonly modelCount: number;
  readonly setCount: number;
}

export interface TableOptions {
  /** Callers prove who they are: scopes are of a model and a principal. */
  readonly auth: boolean;
}

/** As long as the shortest patience at least, which is what requests have that were sent to a pod alone. */
const lingeringSweeps = 2;

export function createRouteTable(onChange: OnChange, check: CheckResource, { auth }: TableOptions = { auth: false }): RouteTable {
  const clusters = createResourceStore(typeUrls.cluster, onChange, check);
  const routes = createResourceStore(typeUrls.routes, onChange, check);
  const runtime = createResourceStore(typeUrls.runtime, onChange, check);
  const extensions = createResourceStore(typeUrls.extension, onChange, check);
  const stores = new Map<string, typeof clusters>([
    [typeUrls.extension, extensions],
    [typeUrls.cluster, clusters],
    [typeUrls.routes, routes],
    [typeUrls.runtime, runtime],
  ]);
  const sets = createSetBook(clusters, routes, onChange, { auth, limited: false });
  if (auth) extensions.put(TypedExtensionConfigSchema, filters.limit, buildLimit(undefined));
  const pods = new Map<string, PodAddress>();
  /** Clusters of pods that are no more, and how many sweeps they stay: a request that is silent there is sent on by them. */
  const lingering = new Map<string, number>();
  const models = new Map<string, PlanEntry>();
  const principals = createPrincipals();
  routes.put(RouteConfigurationSchema, serverRoutesName, buildServerRoutes());

  /** The route configuration that a scope names. */
  function scopeTarget(name: string): string | undefined {
    if (name === serverScope) return serverRoutesName;
    const entry = sets.entryTarget(name);
    if (entry !== undefined) return entry;
    if (!auth) return models.get(name)?.routes;
    const found = parseScopeName(name);
    if (found === undefined || !principals.has(found.model, found.principal)) return undefined;
    return models.get(found.model)?.routes;
  }

  function scopeNames(model: string): readonly string[] {
    return auth ? principals.scopes(model) : [model];
  }

  function encode(name: string, target: string): Uint8Array {
    const told = shortScopeName(name);
    if (!auth) return encodeScope(told, [name], target);
    const found = parseScopeName(name);
    return encodeScope(told, found === undefined ? [name, entryPrincipal] : [found.model, found.principal], target);
  }

  function review(keep: (model: string, principal: string) => boolean, model: string): void {
    const scopes = principals.revoke(model, (principal) => keep(model, principal));
    if (scopes.length > 0) onChange(typeUrls.scope, scopes);
  }

  function setModel(name: string, target: RouteTarget | undefined): void {
    const was = models.get(name);
    const plan = target === undefined ? undefined : openPlan(target);
    if (plan === was) return;
    was?.models.delete(name);
    plan?.models.add(name);
    const scopes = scopeNames(name);
    if (plan !== undefined) models.set(name, plan);
    else {
      models.delete(name);
      principals.revoke(name);
    }
    if (scopes.length > 0) onChange(typeUrls.scope, scopes);
  }

  /** Undefined when no pod is known that holds the active revision. */
  function openPlan({ slot, podIds, split = [], mirror, patience = 0 }: RouteTarget): PlanEntry | undefined {
    const active = openLeg({ slot, podIds });
    if (active === undefined) return undefined;
    const shares = split.flatMap((share) => openShare(share) ?? []);
    const inOrder = shares.sort((a, b) => (routesName(a.set, a.slot) < routesName(b.set, b.slot) ? -1 : 1));
    return sets.openPlan({ active, split: inOrder, mirror: mirror === undefined ? undefined : openShare(mirror), patience });
  }

  function openLeg({ slot, podIds }: RouteLeg): Leg | undefined {
    const held = [...new Set(podIds)].flatMap((podId) => pods.get(podId) ?? []);
    return held.length === 0 ? undefined : sets.openLeg(held, slot);
  }

  function openShare({ percent, ...leg }: RouteShare): LegShare | undefined {
    const opened = openLeg(leg);
    return opened === undefined ? undefined : { ...opened, percent };
  }

  /** What the model's scope leads to now, but for this pod. */
  function withoutPod({ active, split, mirror, patience }: Plan, podId: string): RouteTarget {
    const leg = ({ set, slot }: Leg): RouteLeg => ({
      slot,
      podIds: set.pods.map((other) => other.podId).filter((other) => other !== podId),
    });
    const share = (of: LegShare): RouteShare => ({ ...leg(of), percent: of.percent });
    return { ...leg(active), split: split.map(share), mirror: mirror === undefined ? undefined : share(mirror), patience };
  }

  function removePod(podId: string): void {
    const pod = pods.get(podId);
    if (pod === undefined) return;
    pods.delete(podId);
    // Each of the pod's models changes its route: the cost is of those models, not of all.
    for (const { plan, models: of } of sets.plansOfPod(podId)) {
      const target = withoutPod(plan, podId);
      for (const name of Array.from(of)) setModel(name, target);
    }
    for (const { name } of podClusters(pod)) lingering.set(name, lingeringSweeps);
  }

  function sweepClusters(): void {
    for (const [name, sweeps] of lingering) {
      if (sweeps > 1) lingering.set(name, sweeps - 1);
      else {
        lingering.delete(name);
        clusters.drop(name);
      }
    }
  }

  return {
    get(typeUrl, name) {
      if (typeUrl !== typeUrls.scope) return stores.get(typeUrl)?.get(name);
      const target = scopeTarget(name);
      return target === undefined ? undefined : { version: target, bytes: encode(name, target) };
    },
    *names(typeUrl) {
      if (typeUrl === typeUrls.scope) {
        yield serverScope;
        yield* sets.entryNames();
        if (!auth) yield* models.keys();
        else for (const model of principals.models()) yield* principals.scopes(model);
      } else yield* stores.get(typeUrl)?.names() ?? [];
    },
    needs(typeUrl, name) {
      const target = typeUrl === typeUrls.scope ? scopeTarget(name) : undefined;
      return target === undefined ? undefined : { typeUrl: typeUrls.routes, name: target };
    },
    setPod(pod) {
      const was = pods.get(pod.podId);
      if (was !== undefined && isSame(was, pod)) return false;
      removePod(pod.podId);
      pods.set(pod.podId, pod);
      for (const cluster of podClusters(pod)) {
        lingering.delete(cluster.name);
        clusters.put(ClusterSchema, cluster.name, cluster);
      }
      sets.openLeg([pod], 0);
      return was !== undefined;
    },
    removePod,
    setModel,
    setUsageSample: (millionths) => runtime.put(RuntimeSchema, runtimeLayer, buildRuntime(millionths)),
    podsOf: (cluster) => sets.podsOf(cluster)?.map(({ podId }) => podId),
    isCurrent: (cluster) => sets.podsOf(cluster)?.every((pod) => isSame(pods.get(pod.podId), pod)) === true,
    entry(podId, slot) {
      const pod = pods.get(podId);
      return pod === undefined ? undefined : entryName(sets.openLeg([pod], slot).set, slot);
    },
    wanted(name) {
      const plan = models.get(name)?.plan;
      const isModel = sets.entryTarget(name) === undefined && name !== serverScope;
      const scopes: ResourceRef[] = (isModel ? [...scopeNames(name), ...principals.leaving(name)] : [name]).map((scope) => ({
        typeUrl: typeUrls.scope,
        name: scope,
        version: scopeTarget(scope),
      }));
      const target = plan === undefined ? scopeTarget(name) : models.get(name)?.routes;
      if (target === undefined) return scopes;
      const used = plan === undefined ? [sets.entrySet(name)] : planLegs(plan).map(({ set }) => set);
      const usedClusters = [...new Set(used)].flatMap((set) =>
        set === undefined ? [] : wires.map((wire) => clusterName(set, wire)),
      );
      return [
        ...scopes,
        { typeUrl: typeUrls.routes, name: target, version: routes.get(target)?.version },
        ...usedClusters.map((cluster) => ({ typeUrl: typeUrls.cluster, name: cluster, version: clusters.get(cluster)?.version })),
      ];
    },
    sweep(isAcked) {
      principals.sweep((scope) => isAcked({ typeUrl: typeUrls.scope, name: scope, version: undefined }));
      // A pod's own set stays as long as the pod, so that its next model finds everything in Envoy.
      sweepClusters();
      const own = new Set([...pods.values()].map((pod) => buildSet([pod]).id));
      sets.sweep(
        (set) => own.has(set.id),
        (scope) => isAcked({ typeUrl: typeUrls.scope, name: scope, version: undefined }),
      );
    },
    has: (model) => models.has(model),
    allow(model, principal) {
      const scope = auth && models.has(model) ? principals.allow(model, principal) : undefined;
      if (scope !== undefined) onChange(typeUrls.scope, [scope]);
    },
    review(keep, model) {
      // All that are warm and were asked for, when policies change: people do that, now and then.
      for (const name of model === undefined ? Array.from(principals.models()) : [model]) review(keep, name);
    },
    adopt(scopes, keep) {
      if (!auth) return;
      for (const scope of scopes) {
        const found = parseScopeName(scope);
        if (found !== undefined && models.has(found.model) && keep(found.model, found.principal)) {
          principals.allow(found.model, found.principal);
        }
      }
    },
    setCallers({ keys, closed, tokens }) {
      extensions.put(TypedExtensionConfigSchema, filters.keys, buildKeys(keys, closed && !tokens));
      if (tokens) extensions.put(TypedExtensionConfigSchema, filters.claim, buildClaim(closed));
    },
    setQuotas(rules) {
      if (!auth) return;
      extensions.put(TypedExtensionConfigSchema, filters.limit, buildLimit(rules));
      // Routes of who is known before any filter leave the limit filter out where it has nothing to say.
      sets.setEdge({ auth, limited: rules.limits("requestsPerSecond") });
    },
    get modelCount() {
      return models.size;
    },
    get setCount() {
      return sets.size;
    },
  };
}

function isSame(known: PodAddress | undefined, pod: PodAddress): boolean {
  return known !== undefined && buildSet([known]).id === buildSet([pod]).id;
}

function podClusters(pod: PodAddress): readonly Cluster[] {
  return wires.flatMap((wire) => [buildPodCluster(pod, wire), buildLastCluster(pod, wire)]);
}
