// Owns a pod's own presence: announced under a lease, and announced again under a new one when the lease was lost, for
// instance while the machine slept.
import { sleep } from "../clock.ts";
import type { Log } from "../log.ts";
import { runFollow } from "./follow.ts";
import { nameOfKey, type PodPresence, parsePodRecord, podPrefix, putPod } from "./records.ts";
import type { Registry } from "./registry.ts";

const retryMs = 500;

/** Keeps the pod announced until the signal is aborted; then it vanishes at once. */
export async function runPresence(
  registry: Registry,
  pod: PodPresence,
  options: { readonly ttlMs: number; readonly log: Log },
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await using lease = await registry.openLease(options.ttlMs);
      const put = await putPod(registry, pod, lease);
      if (put.kind !== "ok") throw new Error(`the presence was refused: ${put.kind}`);
      await untilEither(signal, lease.ended);
      if (!signal.aborted) options.log.warn("the presence lease was lost; announcing again", { pod: pod.podId });
    } catch (error) {
      if (signal.aborted) return;
      options.log.warn("the presence could not be announced; trying again", { pod: pod.podId, error });
      await sleep(retryMs, signal).catch(() => undefined);
    }
  }
}

export interface PodListener {
  /** A pod is there, or announces something else. */
  readonly onPod: (pod: PodPresence) => void;
  readonly onGone: (podId: string) => void;
}

/** Tells the living pods, then every change, until the signal is aborted. */
export async function runPodWatch(registry: Registry, listener: PodListener, log: Log, signal: AbortSignal): Promise<void> {
  const known = new Map<string, string>();
  await runFollow(
    registry,
    podPrefix,
    {
      put(key, value): void {
        if (known.get(key) === value) return;
        const parsed = parsePodRecord(value);
        if (parsed.kind === "refused") {
          log.error("a pod's presence is malformed", { key, reason: parsed.reason });
          return;
        }
        known.set(key, value);
        listener.onPod(parsed.value);
      },
      delete(key): void {
        if (known.delete(key)) listener.onGone(nameOfKey(key, podPrefix));
      },
      keys: () => known.keys(),
      synced: () => undefined,
      onError: (error) => log.warn("the registry could not be read; trying again", { error }),
    },
    signal,
  );
}

async function untilEither(one: AbortSignal, other: AbortSignal): Promise<void> {
  const either = AbortSignal.any([one, other]);
  if (either.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  either.addEventListener("abort", () => resolve(), { once: true });
  await promise;
}
