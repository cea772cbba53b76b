// Owns the events that users see beside their objects. Best effort: an event that cannot be written changes nothing.
// Invariants: the same event of an object is written once in a while at most; no more than a bound at once, and in the long run;
// what tells of success leaves room for warnings. What is not written for a bound is in the object's status.
import { createHash } from "node:crypto";
import { bulkhead } from "cockatiel";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import type { KubeClient } from "./engine/client.ts";
import { apiVersionOf, type ResourceType } from "./engine/objects.ts";
import { events, manager } from "./kinds.ts";

export interface Regarding {
  readonly kind: string;
  readonly type: ResourceType;
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
}

export interface Recorder {
  warn(object: Regarding, reason: string, note: string): void;
  tell(object: Regarding, reason: string, note: string): void;
}

const quietMs = 300_000;
const maxRemembered = 5_000;
const maxAtOnce = 8;
/** In the long run, and so many ahead of that. */
const perSecond = 10;
const burst = 300;
/** Of the burst: for warnings alone. */
const reserve = 100;
const maxNote = 1_024;

export function createRecorder(parts: {
  readonly client: Pick<KubeClient, "create">;
  readonly identity: string;
  readonly clock: Clock;
  readonly log: Log;
}): Recorder {
  const { client, identity, clock, log } = parts;
  const said = new Map<string, number>();
  /** What is over this is not written: an API server that answers nobody is told nothing. */
  const calls = bulkhead(maxAtOnce, burst);
  let left = burst;
  let leftAtMs = clock.monotonicMs();

  function mayWrite(type: "Normal" | "Warning", nowMs: number): boolean {
    left = Math.min(burst, left + ((nowMs - leftAtMs) / 1_000) * perSecond);
    leftAtMs = nowMs;
    return left >= (type === "Warning" ? 1 : reserve + 1);
  }

  function write(type: "Normal" | "Warning", object: Regarding, reason: string, note: string): void {
    const key = createHash("sha256")
      .update(JSON.stringify([object.uid, reason, note]))
      .digest("hex")
      .slice(0, 32);
    const nowMs = clock.monotonicMs();
    const last = said.get(key);
    if ((last !== undefined && nowMs - last < quietMs) || !mayWrite(type, nowMs)) return;
    left -= 1;
    said.delete(key);
    said.set(key, nowMs);
    for (const oldest of said.keys()) {
      if (said.size <= maxRemembered) break;
      said.delete(oldest);
    }
    const time = new Date(clock.now()).toISOString().replace("Z", "000Z");
    const event = {
      apiVersion: "events.k8s.io/v1",
      kind: "Event",
      metadata: {
        name: `${object.name.slice(0, 200)}.${key.slice(0, 10)}.${Math.round(clock.now()).toString(16)}`,
        namespace: object.namespace,
      },
      eventTime: time,
      type,
      reason,
      note: note.slice(0, maxNote).toWellFormed(),
      action: "Reconcile",
      reportingController: manager,
      reportingInstance: identity.slice(0, 128),
      regarding: {
        apiVersion: apiVersionOf(object.type),
        kind: object.kind,
        name: object.name,
        namespace: object.namespace,
        uid: object.uid,
      },
    };
    calls
      .execute(() => client.create(events, object.namespace, event))
      .catch((error: unknown) => log.debug("an event could not be written", { object: object.name, error }));
  }

  return {
    warn: (object, reason, note) => write("Warning", object, reason, note),
    tell: (object, reason, note) => write("Normal", object, reason, note),
  };
}
