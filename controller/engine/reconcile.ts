// Owns how keys are worked on: several at once, never the same one twice at a time, failures later and later.
import { errorMessage } from "#core/errors.ts";
import type { Log } from "#platform/log.ts";
import { KubeError } from "./client.ts";
import type { WorkQueue } from "./queue.ts";

/** What became of a key: it is as it should be, or it is to be looked at again after a while whatever happens. */
export type Outcome = { readonly kind: "done" } | { readonly kind: "after"; readonly ms: number };

export const done: Outcome = Object.freeze({ kind: "done" });

export type Reconcile = (key: string, signal: AbortSignal) => Promise<Outcome>;

/** Told of each look at a key. */
export type ReconcileWatch = (outcome: "done" | "again" | "failed", tookMs: number) => void;

export interface ReconcileOptions {
  readonly what: string;
  readonly queue: WorkQueue;
  readonly reconcile: Reconcile;
  readonly workers: number;
  readonly log: Log;
  readonly watch?: ReconcileWatch | undefined;
}

/** Until the signal is aborted; resolves when nothing is at work any more. */
export async function runReconcile(options: ReconcileOptions, signal: AbortSignal): Promise<void> {
  const { queue } = options;
  const stop = (): void => queue.close();
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  await Promise.all(Array.from({ length: options.workers }, () => work(options, signal)));
}

async function work({ what, queue, reconcile, log, watch }: ReconcileOptions, signal: AbortSignal): Promise<void> {
  for (let key = await queue.take(); key !== undefined; key = await queue.take()) {
    const startMs = performance.now();
    try {
      const outcome = await reconcile(key, signal);
      watch?.(outcome.kind === "after" ? "again" : "done", performance.now() - startMs);
      queue.forget(key);
      if (outcome.kind === "after") queue.addAfter(key, outcome.ms);
    } catch (error) {
      if (!signal.aborted) {
        watch?.("failed", performance.now() - startMs);
        // A lost race is everyday work: the object has changed meanwhile, and is looked at again.
        const level = error instanceof KubeError && error.reason === "Conflict" ? "debug" : "warn";
        log[level]("an object could not be reconciled; trying again", {
          what,
          key,
          failures: queue.failures(key),
          reason: errorMessage(error),
        });
      }
      queue.retry(key);
    }
    queue.done(key);
  }
}
