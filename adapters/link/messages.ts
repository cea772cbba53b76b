// Owns how the holding's values become Link messages and back. Everything from a gateway is parsed here once.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { anonymous, isPrincipal } from "#core/access.ts";
import type { LoadClass } from "#core/loadqueue.ts";
import { type ModelName, type Priority, parseModelName, parseRevision, parseRevisionId, type Revision } from "#core/model.ts";
import {
  type CopySchema,
  CopyState as CopyStateMessage,
  FailureKind as FailureKindMessage,
  LoadClass as LoadClassMessage,
  type Load as LoadMessage,
  LoadRefused_Why,
  type Owners,
  type PodMessage,
  PodMessageSchema,
  Priority as PriorityMessage,
  type Usage,
} from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { type CopyFailureKind, type CopyState, type CopyView, copyKey } from "../agent/copies.ts";
import type { RefusalWhy } from "../agent/events.ts";
import type { HoldingGauges } from "../agent/gauges.ts";
import type { LoadTimes } from "../agent/watch.ts";

export type ToGateway = NonNullable<MessageInitShape<typeof PodMessageSchema>["message"]>;

const states: Readonly<Record<CopyState, CopyStateMessage>> = {
  queued: CopyStateMessage.QUEUED,
  loading: CopyStateMessage.LOADING,
  ready: CopyStateMessage.READY,
  leaving: CopyStateMessage.LEAVING,
  failed: CopyStateMessage.FAILED,
  gone: CopyStateMessage.GONE,
};

const failureKinds: Readonly<Record<CopyFailureKind, FailureKindMessage>> = {
  model: FailureKindMessage.MODEL,
  pod: FailureKindMessage.POD,
  storage: FailureKindMessage.STORAGE,
  capacity: FailureKindMessage.CAPACITY,
  "server-died": FailureKindMessage.SERVER_DIED,
};

export const refusals: Readonly<Record<RefusalWhy, LoadRefused_Why>> = {
  "queue-full": LoadRefused_Why.QUEUE_FULL,
  "no-room": LoadRefused_Why.NO_ROOM,
  "over-quota": LoadRefused_Why.OVER_QUOTA,
  stopping: LoadRefused_Why.STOPPING,
  deadline: LoadRefused_Why.DEADLINE,
};

const loadClasses: ReadonlyMap<LoadClassMessage, LoadClass> = new Map([
  [LoadClassMessage.WAITING_USER, "waiting-user"],
  [LoadClassMessage.ENSURE, "ensure"],
  [LoadClassMessage.SCALE_UP, "scale-up"],
  [LoadClassMessage.MIGRATE, "migrate"],
  [LoadClassMessage.PROACTIVE, "proactive"],
]);

const priorities: ReadonlyMap<PriorityMessage, Priority> = new Map([
  [PriorityMessage.HIGH, "high"],
  [PriorityMessage.LOW, "low"],
]);
/** Longer than any of its versions says. */
const maxTraceparentLength = 100;

export const maxUsageEntries = 100_000;

export function buildMessage(message: ToGateway): PodMessage {
  return create(PodMessageSchema, { message });
}

export function buildCopy(view: CopyView, nowMs: number): MessageInitShape<typeof CopySchema> {
  const { model, revision, slot, state, failure } = view;
  return {
    model,
    revision,
    slot,
    state: states[state],
    sizeBytes: BigInt(view.sizeBytes),
    idleMs: state === "gone" ? 0n : toCount(nowMs - view.lastUsedMs),
    ...(failure === undefined
      ? {}
      : { failure: { kind: failureKinds[failure.kind], reason: failure.reason, suspects: failure.suspects ?? 0 } }),
  };
}

export function buildTimes({ model, revision, queue, pull, turn, server, measure }: LoadTimes): ToGateway {
  const parts = { queuedMs: queue, pullMs: pull, turnMs: turn, serverMs: server, measureMs: measure };
  return { case: "loadTimes", value: { model, revision, ...parts } };
}

export function buildGauges(gauges: HoldingGauges): ToGateway {
  const { queued, loading } = gauges;
  return {
    case: "gauges",
    value: {
      // What is promised is as good as used to whoever places loads.
      usedBytes: toCount(gauges.usedBytes + gauges.reservedBytes),
      queued,
      loading,
      oldestIdleMs: toCount(gauges.oldestIdleMs),
      evictions: BigInt(gauges.evictions),
      loads: BigInt(gauges.loads),
      loadFailures: BigInt(gauges.loadFailures),
      queuedByClass: loadOrder.map((loadClass) => gauges.queuedByClass[loadClass]),
      draining: gauges.draining,
      requestsPerSecond: gauges.requestsPerSecond,
    },
  };
}

/** As the protocol numbers them. */
const loadOrder: readonly LoadClass[] = ["waiting-user", "ensure", "scale-up", "migrate", "proactive"];

export interface ParsedLoad {
  readonly model: ModelName;
  readonly revision: Revision;
  readonly loadClass: LoadClass;
  readonly waitMs: number;
  readonly idleMs: number;
  readonly priority: Priority;
  readonly pinned: boolean;
  readonly requestsPerSecond: number;
  readonly tenant: string | undefined;
  readonly tenantBytes: number | undefined;
  readonly traceparent: string | undefined;
}

export function parseLoad(message: LoadMessage): ParsedLoad | { readonly kind: "refused"; readonly reason: string } {
  const { revision: from } = message;
  if (from === undefined) return { kind: "refused", reason: "a load must name a revision" };
  const model = parseModelName(from.model);
  if (model.kind === "refused") return model;
  const revision = parseRevision({
    id: from.revision,
    slot: from.slot,
    format: from.format,
    storageUri: from.storageUri,
    ...(from.sizeHintBytes === 0n ? {} : { sizeHintBytes: Number(from.sizeHintBytes) }),
    ...(from.formatVersion === "" ? {} : { formatVersion: from.formatVersion }),
    ...(from.storageKey === "" ? {} : { storageKey: from.storageKey }),
    storageParameters: from.storageParameters,
    ...(from.schemaPath === "" ? {} : { schemaPath: from.schemaPath }),
  });
  if (revision.kind === "refused") return revision;
  const loadClass = loadClasses.get(message.loadClass);
  if (loadClass === undefined) return { kind: "refused", reason: "a load must have one of the known classes" };
  return {
    model: model.name,
    revision: revision.revision,
    loadClass,
    waitMs: message.waitMs,
    idleMs: Number(message.idleMs),
    priority: priorities.get(message.priority) ?? "normal",
    pinned: message.pinned,
    requestsPerSecond: toRate(message.requestsPerSecond),
    tenant: parseTenant(message.tenant),
    tenantBytes: message.tenantBytes === undefined ? undefined : Number(message.tenantBytes),
    traceparent: message.traceparent === "" ? undefined : message.traceparent.slice(0, maxTraceparentLength),
  };
}

function parseTenant(tenant: string): string | undefined {
  return tenant === anonymous || isPrincipal(tenant) ? tenant : undefined;
}

/** Whose models are; entries that name none are left out, and so is what goes beyond the bound. */
export function parseOwners({ entries }: Owners): ReadonlyMap<string, string | undefined> {
  const known = entries.slice(0, maxUsageEntries).filter(({ model }) => parseModelName(model).kind === "ok");
  return new Map(known.map(({ model, tenant }) => [model, parseTenant(tenant)]));
}

/** Undefined when it is the name of no copy. */
export function parseKey(from: { readonly model: string; readonly revision: string }): string | undefined {
  const model = parseModelName(from.model);
  const revision = parseRevisionId(from.revision);
  return model.kind === "ok" && revision.kind === "ok" ? copyKey({ model: model.name, revision: revision.id }) : undefined;
}

/** Entries that name no copy are left out, and so is what goes beyond the bound. */
export function parseUsage(
  message: Usage,
): readonly { readonly key: string; readonly idleMs: number; readonly requests: number }[] {
  return message.entries.slice(0, maxUsageEntries).flatMap((entry) => {
    const key = parseKey(entry);
    return key === undefined ? [] : [{ key, idleMs: entry.idleMs, requests: toRate(entry.requests) }];
  });
}

function toCount(value: number): bigint {
  return BigInt(Math.max(0, Math.round(value)));
}

function toRate(value: number): number {
  return Number.isFinite(value) && value > 0 ? value : 0;
}
