// Owns how Link messages become values of the fleet, and back. Everything from an adapter is parsed here once.

import { type LoadClass, longestLoadMs } from "#core/loadqueue.ts";
import { maxSlot, type Priority, parseModelName, parseRevisionId } from "#core/model.ts";
import {
  type Copy as CopyMessage,
  CopyState as CopyStateMessage,
  FailureKind as FailureKindMessage,
  type Gauges,
  LoadClass as LoadClassMessage,
  type LoadTimes as LoadTimesMessage,
  type Pod as PodMessage,
  Priority as PriorityMessage,
} from "#proto/gen/warmpath/link/v1/link_pb.ts";
import type { CopyChange, FailureKind, PodGauges, PodInfo } from "./fleet.ts";
import { type PartName, partNames } from "./spans.ts";

const states: Readonly<Record<CopyStateMessage, CopyChange["state"] | undefined>> = {
  [CopyStateMessage.UNSPECIFIED]: undefined,
  [CopyStateMessage.QUEUED]: "queued",
  [CopyStateMessage.LOADING]: "loading",
  [CopyStateMessage.READY]: "ready",
  [CopyStateMessage.LEAVING]: "leaving",
  [CopyStateMessage.FAILED]: "failed",
  [CopyStateMessage.GONE]: "gone",
};

const failureKinds: Readonly<Record<FailureKindMessage, FailureKind>> = {
  [FailureKindMessage.UNSPECIFIED]: "pod",
  [FailureKindMessage.MODEL]: "model",
  [FailureKindMessage.POD]: "pod",
  [FailureKindMessage.STORAGE]: "storage",
  [FailureKindMessage.CAPACITY]: "capacity",
  [FailureKindMessage.SERVER_DIED]: "server-died",
};

export const classMessages: Readonly<Record<LoadClass, LoadClassMessage>> = {
  "waiting-user": LoadClassMessage.WAITING_USER,
  ensure: LoadClassMessage.ENSURE,
  "scale-up": LoadClassMessage.SCALE_UP,
  migrate: LoadClassMessage.MIGRATE,
  proactive: LoadClassMessage.PROACTIVE,
};

export const priorityMessages: Readonly<Record<Priority, PriorityMessage>> = {
  high: PriorityMessage.HIGH,
  normal: PriorityMessage.NORMAL,
  low: PriorityMessage.LOW,
};

const maxReasonLength = 500;
const maxClasses = 5;

/** Undefined: the adapter said something that no copy can be. */
export function parseCopy(message: CopyMessage): CopyChange | undefined {
  const model = parseModelName(message.model);
  const revision = parseRevisionId(message.revision);
  const state = states[message.state];
  if (model.kind === "refused" || revision.kind === "refused" || state === undefined || message.slot > maxSlot) return undefined;
  return {
    model: model.name,
    revision: revision.id,
    slot: message.slot,
    state,
    sizeBytes: Number(message.sizeBytes),
    ...(message.failure === undefined
      ? {}
      : {
          failure: {
            kind: failureKinds[message.failure.kind] ?? "pod",
            reason: message.failure.reason.slice(0, maxReasonLength),
            ...(message.failure.suspects === 0 ? {} : { suspects: message.failure.suspects }),
          },
        }),
  };
}

export function parsePod(message: PodMessage): PodInfo | undefined {
  const id = parseModelName(message.podId);
  const rest = parseAddress(message.restAddress);
  const grpc = parseAddress(message.grpcAddress);
  if (id.kind === "refused" || rest === undefined || grpc === undefined) return undefined;
  const injections = parseInjections(message.idInjections);
  return {
    podId: id.name,
    incarnation: message.incarnation,
    runtime: message.runtime,
    capacityBytes: Number(message.capacityBytes),
    rest,
    grpc,
    ...(message.streamsByHeader ? { streamsByHeader: true } : {}),
    ...(message.restByGrpc ? { restByGrpc: true } : {}),
    ...(message.serverLosses === 0 ? {} : { losses: message.serverLosses }),
    labels: { ...message.labels },
    formats: message.formats.length === 0 ? [message.runtime] : [...message.formats],
    ...(message.absenceByStatus ? { absenceByStatus: true } : {}),
    ...(injections.size > 0 ? { idInjections: injections } : {}),
    ...(message.loadTimeoutMs === 0 ? {} : { loadTimeoutMs: Math.min(message.loadTimeoutMs, longestLoadMs) }),
    ...(parseAddress(message.metricsAddress) === undefined ? {} : { metricsAddress: message.metricsAddress }),
  };
}

export function parseGauges(message: Gauges): PodGauges {
  return {
    usedBytes: Number(message.usedBytes),
    queued: message.queued,
    loading: message.loading,
    oldestIdleMs: Number(message.oldestIdleMs),
    evictions: Number(message.evictions),
    loads: Number(message.loads),
    loadFailures: Number(message.loadFailures),
    draining: message.draining,
    requestsPerSecond: finite(message.requestsPerSecond),
    queuedByClass: message.queuedByClass.slice(0, maxClasses),
  };
}

/** Where the time of a load went, in the order in which it did, by the clock of its adapter. */
export interface LoadTimes {
  readonly model: string;
  readonly revision: string;
  readonly parts: readonly { readonly name: PartName; readonly ms: number }[];
}

export function parseLoadTimes(message: LoadTimesMessage): LoadTimes {
  const { model, revision, queuedMs, pullMs, turnMs, serverMs, measureMs } = message;
  const all = { queue: queuedMs, pull: pullMs, turn: turnMs, load: serverMs, measure: measureMs };
  return { model, revision, parts: partNames.map((name) => ({ name, ms: finite(all[name]) })) };
}

/** `host:port`, an IPv6 host in brackets. */
function parseAddress(text: string): { host: string; port: number } | undefined {
  const found = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/.exec(text);
  const host = found?.[1] ?? found?.[2];
  const port = Number(found?.[3]);
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port };
}

function finite(value: number): number {
  return Number.isFinite(value) && value > 0 ? value : 0;
}

const maxInjections = 64;
const maxInjectionDepth = 8;
const maxFieldNumber = 2 ** 29 - 1;

/** Those that are well formed, in order of their names. */
function parseInjections(messages: PodMessage["idInjections"]): ReadonlyMap<string, string> {
  const good = messages
    .slice(0, maxInjections)
    .filter(
      ({ method, path }) =>
        method.length <= 200 &&
        /^[A-Za-z_][A-Za-z0-9_.]*\/[A-Za-z_][A-Za-z0-9_]*$/.test(method) &&
        path.length > 0 &&
        path.length <= maxInjectionDepth &&
        path.every((number) => number >= 1 && number <= maxFieldNumber),
    )
    .map(({ method, path }): [string, string] => [method, path.join(".")]);
  return new Map(good.sort(([a], [b]) => (a < b ? -1 : 1)));
}
