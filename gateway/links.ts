// Owns the Links to all pods that the registry says are there: opens, reopens, and decides when a pod is gone.
//
//   present in registry -> connecting -> linked -> broken -> (pause) -> connecting ...
//
// A broken Link makes the pod unreachable at once: nothing new is placed there, but its routes stay for graceMs, since the
// model server may be well while its adapter restarts, and Envoy passes over what does not answer. After that, or when
// the registry says that the pod has left, the pod is detached. A pod that the registry no longer names stays as long as
// its Link lives, and is forgotten with it.
import type { ErrorCode } from "#core/errors.ts";
import type { LoadClass } from "#core/loadqueue.ts";
import type { Priority, Revision } from "#core/model.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import type { Identity } from "#platform/tls/identity.ts";
import { LoadRefused_Why } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { createArrivals, type Expected } from "./arrivals.ts";
import type { CopyChange, Fleet } from "./fleet.ts";
import { type Link, openLink } from "./link.ts";
import { classMessages, type LoadTimes, priorityMessages } from "./linkmessages.ts";
import type { ModelUse } from "./usage.ts";

export interface PodPresence {
  readonly podId: string;
  /** New at every start of the adapter. */
  readonly incarnation: string;
  readonly linkAddress: string;
  readonly runtime?: string;
}

/** How urgent a load is, and what the pod has to know of the model. */
export interface LoadAsk {
  readonly loadClass: LoadClass;
  /** Normal when absent. */
  readonly priority?: Priority | undefined;
  /** How long it may wait in the pod's queue. */
  readonly waitMs: number;
  /** How long ago the model was last used; now when absent. */
  readonly idleMs?: number;
  /** Never to be evicted for others. */
  readonly pinned?: boolean;
  /** How often the model is asked for, when that is known. */
  readonly requestsPerSecond?: number;
  /** Whose the model is, and what that tenant's copies may take on the pod; no quota when absent. */
  readonly tenant?: string | undefined;
  readonly tenantBytes?: number | undefined;
  /** Trace context of a request that waits for it. */
  readonly traceparent?: string | undefined;
}

export interface Links extends Disposable {
  setPresent(presence: PodPresence): void;
  setAbsent(podId: string): void;
  sendLoad(podId: string, model: string, revision: Revision, ask: LoadAsk): void;
  cancelLoad(podId: string, model: string, revision: string): void;
  /** The copy is wanted there no more. */
  sendDrop(podId: string, model: string, revision: string): void;
  /** Whose models are that the pod holds copies of; `-` is nobody. */
  sendOwners(podId: string, owners: ReadonlyMap<string, string>): void;
  /** Copies of the tenant are to take no more than so much on the pod. */
  sendTrim(podId: string, tenant: string, bytes: number): void;
  /** The pod is to be emptied. False when it is not linked. */
  startDrain(podId: string): boolean;
  verify(podId: string, model: string, revision: string): Promise<boolean>;
  /** To the pods that hold each model ready. */
  sendUsage(uses: ReadonlyMap<string, ModelUse>): void;
  isLinked(podId: string): boolean;
  /** Whether a pod of this runtime, or of any, may be there in a moment: it was until just now, or is on its way. */
  awaits(runtime: string | undefined): boolean;
}

export interface LinksParts {
  readonly gatewayId: string;
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly log: Log;
  /** Of this gateway among its peers; plain text when absent. */
  readonly identity?: Identity | undefined;
  readonly onRefused: (podId: string, model: string, revision: string, code: ErrorCode, reason: string) => void;
  /** The pod wants other places for these copies, the first ones first. */
  readonly onDraining?: (podId: string, copies: readonly CopyChange[], patienceMs: number) => void;
  readonly onLoadTimes?: (podId: string, times: LoadTimes) => void;
  /** The pod is linked, and the fleet knows what it holds. */
  readonly onLinked?: (podId: string) => void;
  readonly onBreak: (podId: string) => void;
  /** Its model server died, or was started anew. */
  readonly onServerDied?: (podId: string) => void;
  /** Whether requests for the model go to this revision: copies of others age. */
  readonly isServed: (model: string, revision: string) => boolean;
  /** Resolves when no request goes to these copies any more. */
  readonly withdrawn: (changes: readonly CopyChange[]) => Promise<void>;
}

const pingMs = 1_000;
const silenceMs = 3_500;
const graceMs = 3_000;
const firstPauseMs = 50;
const longestPauseMs = 2_000;
const verifyMs = 1_000;
/** In one message. */
const maxOwners = 10_000;

const refusalCodes: Readonly<Record<LoadRefused_Why, ErrorCode>> = {
  [LoadRefused_Why.UNSPECIFIED]: "pod-failed",
  [LoadRefused_Why.QUEUE_FULL]: "queue-full",
  [LoadRefused_Why.NO_ROOM]: "no-capacity",
  [LoadRefused_Why.OVER_QUOTA]: "quota-exceeded",
  [LoadRefused_Why.STOPPING]: "pod-failed",
  [LoadRefused_Why.DEADLINE]: "queue-full",
  [LoadRefused_Why.INVALID]: "internal",
};

interface Entry {
  presence: PodPresence;
  /** Since when it has not been linked, if it is not. */
  missingMs: number;
  link: Link | undefined;
  linked: boolean;
  /** Of the pod that the Link leads to. */
  linkedIncarnation: string | undefined;
  /** The registry does not name it any more. */
  absent: boolean;
  pauseMs: number;
  /** Waits to reconnect. */
  retry: NodeJS.Timeout | undefined;
  /** Waits to give the pod up. */
  grace: NodeJS.Timeout | undefined;
}

export function createLinks(parts: LinksParts): Links {
  const { fleet, clock, log } = parts;
  const entries = new Map<string, Entry>();
  const arrivals = createArrivals(clock);

  function connect(entry: Entry): void {
    const { podId, linkAddress } = entry.presence;
    entry.retry = undefined;
    const link = openLink(
      { gatewayId: parts.gatewayId, address: linkAddress, clock, pingMs, silenceMs, identity: parts.identity },
      {
        onLinked(info, copies) {
          if (info.podId !== podId) return link.close(`another pod, ${info.podId}, answers at ${linkAddress}`);
          entry.linked = true;
          entry.linkedIncarnation = info.incarnation;
          entry.pauseMs = firstPauseMs;
          clearTimeout(entry.grace);
          entry.grace = undefined;
          log.info("a pod is linked", { podId, copies: copies.length });
          fleet.attach(info, copies);
          return parts.onLinked?.(podId);
        },
        onDelta(changes, sequence, withdraw) {
          fleet.change(podId, changes);
          if (!withdraw) return;
          void parts.withdrawn(changes).then(() => link.send({ case: "withdrawAck", value: { sequence } }));
        },
        onGauges: (gauges) => fleet.setGauges(podId, gauges),
        onRefused: ({ model, revision, why, reason }) =>
          parts.onRefused(podId, model, revision, refusalCodes[why] ?? "pod-failed", reason),
        onDraining(copies, patienceMs) {
          fleet.setDraining(podId);
          parts.onDraining?.(podId, copies, patienceMs);
        },
        onLoadTimes: (times) => parts.onLoadTimes?.(podId, times),
        onServerDied: () => parts.onServerDied?.(podId),
        onServerLost: (losses) => fleet.setLosses(podId, losses),
        onBroken: (reason) => onBroken(entry, link, reason),
      },
    );
    entry.link = link;
  }

  function onBroken(entry: Entry, link: Link, reason: string): void {
    if (entry.link !== link) return;
    const { podId } = entry.presence;
    if (entry.linked) {
      entry.missingMs = clock.monotonicMs();
      log.warn("a Link broke", { podId, reason });
      parts.onBreak(podId);
    }
    entry.link = undefined;
    entry.linked = false;
    fleet.setUnreachable(podId);
    entry.grace ??= setTimeout(() => {
      log.warn("a pod is given up", { podId, reason });
      entry.grace = undefined;
      if (entry.absent) forget(entry, "the pod left");
      else fleet.detach(podId);
    }, graceMs);
    entry.retry = setTimeout(() => connect(entry), entry.pauseMs);
    entry.pauseMs = Math.min(entry.pauseMs * 2, longestPauseMs);
  }

  function forget(entry: Entry, reason: string): void {
    const { podId } = entry.presence;
    entries.delete(podId);
    arrivals.left(expectedOf(entry));
    drop(entry, reason);
    fleet.detach(podId);
  }

  function* expected(): Generator<Expected> {
    for (const entry of entries.values()) yield expectedOf(entry);
  }

  function drop(entry: Entry, reason: string): void {
    const { link } = entry;
    entry.link = undefined;
    link?.close(reason);
    clearTimeout(entry.retry);
    clearTimeout(entry.grace);
  }

  return {
    setPresent(presence) {
      const known = entries.get(presence.podId);
      if (known !== undefined) {
        const same = known.presence.incarnation === presence.incarnation && known.presence.linkAddress === presence.linkAddress;
        known.presence = presence;
        known.absent = false;
        // The Link may have found the new one before the registry told of it.
        if (known.linked && known.linkedIncarnation === presence.incarnation) return;
        if (same && known.link !== undefined) return;
        // Started anew: what its Link said before is void, what its model server holds comes with the snapshot.
        const { grace } = known;
        known.grace = undefined;
        drop(known, "the pod started anew");
        known.grace = grace;
        if (known.linked) parts.onBreak(presence.podId);
        known.linked = false;
        // What was asked of it is asked of another.
        fleet.setUnreachable(presence.podId);
        known.missingMs = clock.monotonicMs();
        known.pauseMs = firstPauseMs;
        connect(known);
        return;
      }
      const entry: Entry = {
        presence,
        missingMs: clock.monotonicMs(),
        link: undefined,
        linked: false,
        linkedIncarnation: undefined,
        absent: false,
        pauseMs: firstPauseMs,
        retry: undefined,
        grace: undefined,
      };
      entries.set(presence.podId, entry);
      connect(entry);
    },
    setAbsent(podId) {
      const entry = entries.get(podId);
      // While the Link lives so does the pod, whatever became of its lease.
      if (entry === undefined) return;
      entry.absent = true;
      if (!entry.linked) forget(entry, "the pod left");
    },
    sendLoad(podId, model, revision, ask) {
      entries.get(podId)?.link?.send({
        case: "load",
        value: {
          revision: {
            model,
            revision: revision.id,
            slot: revision.slot,
            format: revision.format,
            storageUri: revision.storageUri,
            sizeHintBytes: BigInt(revision.sizeHintBytes ?? 0),
            formatVersion: revision.formatVersion ?? "",
            storageKey: revision.storageKey ?? "",
            storageParameters: revision.storageParameters ?? {},
            schemaPath: revision.schemaPath ?? "",
          },
          loadClass: classMessages[ask.loadClass],
          priority: priorityMessages[ask.priority ?? "normal"],
          waitMs: Math.min(Math.round(ask.waitMs), 2 ** 31),
          idleMs: BigInt(Math.round(ask.idleMs ?? 0)),
          pinned: ask.pinned ?? false,
          requestsPerSecond: ask.requestsPerSecond ?? 0,
          tenant: ask.tenant ?? "",
          ...(ask.tenantBytes === undefined ? {} : { tenantBytes: BigInt(Math.floor(ask.tenantBytes)) }),
          traceparent: ask.traceparent ?? "",
        },
      });
    },
    cancelLoad: (podId, model, revision) => entries.get(podId)?.link?.send({ case: "cancelLoad", value: { model, revision } }),
    sendDrop: (podId, model, revision) => entries.get(podId)?.link?.send({ case: "drop", value: { model, revision } }),
    sendOwners(podId, owners) {
      const told = Array.from(owners, ([model, tenant]) => ({ model, tenant }));
      for (let at = 0; at < told.length; at += maxOwners) {
        entries.get(podId)?.link?.send({ case: "owners", value: { entries: told.slice(at, at + maxOwners) } });
      }
    },
    sendTrim: (podId, tenant, bytes) =>
      entries.get(podId)?.link?.send({ case: "trim", value: { tenant, bytes: BigInt(Math.floor(bytes)) } }),
    startDrain(podId) {
      const entry = entries.get(podId);
      if (entry?.linked !== true) return false;
      entry.link?.send({ case: "startDrain", value: {} });
      return true;
    },
    async verify(podId, model, revision) {
      return (await entries.get(podId)?.link?.verify(model, revision, verifyMs)) ?? false;
    },
    sendUsage(uses) {
      const nowMs = clock.monotonicMs();
      const byPod = new Map<string, { model: string; revision: string; requests: number; idleMs: number }[]>();
      for (const [model, { requests, lastUsedMs }] of uses) {
        const ready = Array.from(fleet.holders(model)).filter(({ copy }) => copy.state === "ready");
        // Most models have one revision: only of several it matters which get requests.
        const mixed = ready.some(({ copy }) => copy.revision !== ready[0]?.copy.revision);
        const used = mixed ? ready.filter(({ copy }) => parts.isServed(model, copy.revision)) : ready;
        for (const { podId, copy } of used) {
          const list = byPod.get(podId) ?? [];
          byPod.set(podId, list);
          // Envoy spreads them evenly, near enough.
          list.push({
            model,
            revision: copy.revision,
            requests: requests / used.length,
            idleMs: Math.round(nowMs - lastUsedMs),
          });
        }
      }
      for (const [podId, list] of byPod) entries.get(podId)?.link?.sendUnlessBusy({ case: "usage", value: { entries: list } });
    },
    isLinked: (podId) => entries.get(podId)?.linked === true,
    awaits: (runtime) => arrivals.awaits(runtime, expected()),
    [Symbol.dispose]() {
      for (const entry of entries.values()) drop(entry, "the gateway stops");
      entries.clear();
    },
  };
}

function expectedOf({ presence, linked, absent, missingMs }: Entry): Expected {
  return { runtime: presence.runtime, linked, absent, missingMs };
}
