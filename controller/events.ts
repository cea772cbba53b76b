// Owns the events that users see beside their objects. Best effort: an event that cannot be written changes nothing.
// Invariant: the same event of an object is written once in a while at most, and no more than a bound at once.
import { createHash } from "node:crypto";
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
const maxNote = 1_024;

export function createRecorder(parts: {
  readonly client: Pick<KubeClient, "create">;
  readonly identity: string;
  readonly clock: Clock;
  readonly log: Log;
}): Recorder {
  const { client, identity, clock, log } = parts;
  const said = new Map<string, number>();
  let underWay = 0;

  function write(type: "Normal" | "Warning", object: Regarding, reason: string, note: string): void {
    const key = createHash("sha256")
      .update(JSON.stringify([object.uid, reason, note]))
      .digest("hex")
      .slice(0, 32);
    const nowMs = clock.monotonicMs();
    const last = said.get(key);
    if ((last !== undefined && nowMs - last < quietMs) || underWay >= maxAtOnce) return;
    said.delete(key);
    said.set(key, nowMs);
    for (const oldest of said.keys()) {
      if (said.size <= maxRemembered) break;
      said.delete(oldest);
    }
    underWay += 1;
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
    client
      .create(events, object.namespace, event)
      .catch((error: unknown) => log.debug("an event could not be written", { object: object.name, error }))
      .finally(() => (underWay -= 1));
  }

  return {
    warn: (object, reason, note) => write("Warning", object, reason, note),
    tell: (object, reason, note) => write("Normal", object, reason, note),
  };
}
