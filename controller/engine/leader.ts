// Owns the election: one of several controllers works, by a Lease of Kubernetes.
//
//   standing by --lease free or expired, taken--> leading
//        ^                                          | cannot renew in time
//        +----------- its work has ended -----------+
//
// Invariants: whoever leads stops before another may begin. It counts its own time from before the request that renewed
// the lease, and gives up `renewMs` later, which is well before `leaseMs` are over for those who watch it. Clocks of
// machines are never compared: a rival waits until it has itself seen the lease unchanged for `leaseMs`. What a leader
// writes to the registry it writes with the revision that it read, so a write that was held up for longer than any of this
// meets a conflict. Who has lost the lease stands by again in the same process: an API server that was slow for a while
// costs nobody a restart.
import { type Clock, sleep } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { type KubeClient, KubeError } from "./client.ts";
import { type KubeObject, type ResourceType, record, text } from "./objects.ts";

const leases: ResourceType = {
  group: "coordination.k8s.io",
  version: "v1",
  plural: "leases",
  kind: "Lease",
  namespaced: true,
};

export interface LeaderOptions {
  /** Of its own, with deadlines well below `renewMs`: a call that hangs, or waits behind the leader's work, costs the lease. */
  readonly client: Pick<KubeClient, "get" | "create" | "replace">;
  readonly namespace: string;
  readonly name: string;
  /** Another one for each process. */
  readonly identity: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly leaseMs?: number;
  readonly renewMs?: number;
  readonly retryMs?: number;
}

/**
 * Waits to lead, then runs `lead` under a signal that is aborted when leadership is lost or `signal` is aborted; and again,
 * until `signal` is aborted. Rejects when `lead` does.
 */
export async function runLeader(
  options: LeaderOptions,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { client, namespace, name, identity, clock, log } = options;
  const { leaseMs = 30_000, renewMs = 20_000, retryMs = 2_000 } = options;
  let seen: { readonly version: string; readonly atMs: number } | undefined;
  let renewedMs = Number.NEGATIVE_INFINITY;
  /** As we wrote it last: renewing is one call for as long as nobody else writes it. */
  let held: KubeObject | undefined;

  /** True when the lease is ours now. */
  async function attempt(): Promise<boolean> {
    const startedMs = clock.monotonicMs();
    const current = held ?? (await client.get(leases, namespace, name));
    held = undefined;
    const nowText = new Date(clock.now()).toISOString().replace("Z", "000Z");
    if (current === undefined) {
      held = await client.create(leases, namespace, {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { name, namespace },
        spec: specOf(identity, leaseMs, nowText, nowText, 0),
      });
      renewedMs = startedMs;
      return true;
    }
    const spec = record(current.body["spec"]);
    const holder = text(spec["holderIdentity"]);
    if (holder !== identity) {
      const version = current.metadata.resourceVersion;
      if (seen?.version !== version) seen = { version, atMs: startedMs };
      if (holder !== undefined && startedMs - seen.atMs < leaseMs) return false;
    }
    const transitions = Number(spec["leaseTransitions"] ?? 0) + (holder === identity ? 0 : 1);
    const acquired = holder === identity ? (text(spec["acquireTime"]) ?? nowText) : nowText;
    const next = withSpec(current, specOf(identity, leaseMs, acquired, nowText, transitions));
    held = await client.replace(leases, namespace, name, next);
    renewedMs = startedMs;
    return true;
  }

  async function tried(): Promise<boolean> {
    try {
      return await attempt();
    } catch (error) {
      const lostRace = error instanceof KubeError && (error.reason === "Conflict" || error.reason === "AlreadyExists");
      if (!lostRace && !signal.aborted) log.warn("the lease of the leader cannot be read or written", { name, error });
      return false;
    }
  }

  while (!signal.aborted) {
    if (await tried()) await leadOnce();
    else await sleep(retryMs, signal).catch(() => undefined);
  }

  async function leadOnce(): Promise<void> {
    log.info("leading", { name, identity });
    const lost = new AbortController();
    const leading = AbortSignal.any([signal, lost.signal]);
    const watch = setInterval(() => {
      if (clock.monotonicMs() - renewedMs <= renewMs) return;
      log.warn("the lease could not be renewed in time; standing by", { name, identity });
      clearInterval(watch);
      lost.abort(new Error("the lease could not be renewed in time"));
    }, 100);
    const renewing = (async (): Promise<void> => {
      while (!leading.aborted) {
        await sleep(retryMs, leading).catch(() => undefined);
        if (!leading.aborted) await tried();
      }
    })();
    try {
      await lead(leading);
    } finally {
      const isLost = lost.signal.aborted;
      clearInterval(watch);
      lost.abort(new Error("the work is done"));
      await renewing;
      // A successor need not wait for the lease to expire.
      if (!isLost) await release().catch(() => undefined);
      held = undefined;
    }
  }

  async function release(): Promise<void> {
    const current = await client.get(leases, namespace, name);
    const spec = record(current?.body["spec"]);
    if (current === undefined || text(spec["holderIdentity"]) !== identity) return;
    await client.replace(leases, namespace, name, withSpec(current, { ...spec, holderIdentity: "", leaseDurationSeconds: 1 }));
  }
}

function specOf(
  identity: string,
  leaseMs: number,
  acquired: string,
  renewed: string,
  transitions: number,
): Record<string, unknown> {
  return {
    holderIdentity: identity,
    leaseDurationSeconds: Math.max(1, Math.ceil(leaseMs / 1_000)),
    acquireTime: acquired,
    renewTime: renewed,
    leaseTransitions: transitions,
  };
}

function withSpec(object: KubeObject, spec: unknown): unknown {
  return { ...object.body, spec };
}
