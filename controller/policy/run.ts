// Owns how AccessPolicies come to the gateways: each is a record of the registry, as the management API writes them, under a
// name of its own. By itself, so that nothing of models waits for it, such as where the kind is not installed yet.
// Invariants: a record whose object is gone is deleted, whenever the object went, and none before all objects are known; a
// write expects what was read, so a controller that lost its lease changes nothing.
import { maxPolicies } from "#core/access.ts";
import { type Clock, untilAborted } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { objectPolicyName, policyPrefix } from "#platform/registry/accessrecords.ts";
import { runFollow } from "#platform/registry/follow.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { changesStatus } from "../conditions.ts";
import type { KubeClient } from "../engine/client.ts";
import { createQueue } from "../engine/queue.ts";
import { done, type Outcome, type ReconcileWatch, runReconcile } from "../engine/reconcile.ts";
import { createReflector } from "../engine/reflector.ts";
import { accessPolicies } from "../kinds.ts";
import { buildPolicyStatus, type PolicySource, parseAccessPolicy } from "./policy.ts";

export interface PolicyParts {
  readonly client: KubeClient;
  readonly registry: Registry;
  readonly namespace: string;
  readonly isEnforced: boolean;
  readonly clock: Clock;
  readonly log: Log;
  readonly watch?: ReconcileWatch | undefined;
}

export interface Policies {
  readonly objects: number;
  readonly queued: number;
  /** Until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
}

export function createPolicies(parts: PolicyParts): Policies {
  const { client, registry, namespace, clock, log } = parts;
  const queue = createQueue({ clock });
  const recordPrefix = policyPrefix + objectPolicyName(namespace, "");
  const nameOf = (key: string): string => key.slice(recordPrefix.length);
  const reflector = createReflector<PolicySource>({
    client,
    type: accessPolicies,
    namespace,
    parse: (object) => (object.metadata.deletionTimestamp === undefined ? parseAccessPolicy(object) : undefined),
    onChange: (key) => queue.add(key.slice(key.indexOf("/") + 1)),
    log,
  });
  const held = new Set<string>();

  /** The record as it is to be; why it cannot be, if so. */
  async function write(name: string, value: string | undefined): Promise<string | undefined> {
    const key = recordPrefix + name;
    const current = await registry.get(key);
    if (current?.value === value) return undefined;
    const result =
      value === undefined
        ? await registry.delete(key, { expect: current?.revision })
        : await registry.put(key, value, { expect: current?.revision ?? "absent" });
    if (result.kind === "conflict") throw new Error("the record changed meanwhile");
    if (result.kind === "ok") log.info("who may call has changed", { policy: name, isOpen: value !== undefined });
    return result.kind === "ok" ? undefined : `the registry refuses it: ${result.kind}`;
  }

  async function reconcile(name: string): Promise<Outcome> {
    const source = reflector.store.get(`${namespace}/${name}`);
    const refused = await write(name, source?.value);
    if (source === undefined) return done;
    const tooMany = reflector.store.size > maxPolicies ? `there are more than ${maxPolicies} policies` : undefined;
    const status = buildPolicyStatus(source, { refused: refused ?? tooMany, isEnforced: parts.isEnforced }, clock.now());
    if (changesStatus(status, source.status)) await client.mergeStatus(accessPolicies, namespace, name, status);
    return done;
  }

  return {
    get objects() {
      return reflector.store.size;
    },
    get queued() {
      return queue.length;
    },
    async run(signal) {
      const recordsKnown = Promise.withResolvers<void>();
      const records = runFollow(
        registry,
        recordPrefix,
        {
          put(key) {
            held.add(key);
            queue.add(nameOf(key));
          },
          delete(key) {
            held.delete(key);
            queue.add(nameOf(key));
          },
          keys: () => held,
          synced: () => recordsKnown.resolve(),
          onError: (error) => log.warn("the registry could not be read; trying again", { error }),
        },
        signal,
      );
      const objects = reflector.run(signal);
      await Promise.race([Promise.all([reflector.synced, recordsKnown.promise]), untilAborted(signal)]);
      if (!signal.aborted) await runReconcile({ what: "policy", queue, workers: 2, log, watch: parts.watch, reconcile }, signal);
      await Promise.all([records, objects]);
    },
  };
}
