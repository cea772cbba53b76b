// Owns the memory of what happened to models lately: loads, failures, evictions, moves of the pointer. For people who ask why.
// Invariants: bounded, the models whose last event is oldest are forgotten first; an event costs the same however many
// models there are; times are the wall clock's, as this gateway saw the events.
import type { Clock } from "#platform/clock.ts";
import type { CopyChange, FailureKind } from "./fleet.ts";
import { copyKey } from "./fleet.ts";

export interface JournalEvent {
  readonly atMs: number;
  readonly what: CopyChange["state"] | "registered" | "changed" | "unregistered" | "promoted" | "waited";
  readonly revision?: string;
  readonly pod?: string;
  readonly reason?: string;
}

export interface LastFailure {
  readonly kind: FailureKind;
  readonly reason: string;
  readonly atMs: number;
  readonly pod: string;
}

export interface Journal {
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  note(model: string, event: Omit<JournalEvent, "atMs">): void;
  /** The newest last. */
  events(model: string): readonly JournalEvent[];
  /** When the copy entered its state, as far as is remembered. */
  since(model: string, revision: string, podId: string): number | undefined;
  /** Of a load that failed after the last one that did not. */
  lastFailure(model: string, revision: string): LastFailure | undefined;
}

const maxModels = 5_000;
const maxEvents = 24;
const sameMs = 1_000;

interface Page {
  readonly events: JournalEvent[];
  readonly failures: Map<string, LastFailure>;
}

export function createJournal(clock: Pick<Clock, "now">): Journal {
  const pages = new Map<string, Page>();

  function turnTo(model: string): Page {
    const page = pages.get(model) ?? { events: [], failures: new Map<string, LastFailure>() };
    // Again at the end: the map's order is the order of the last events.
    pages.delete(model);
    pages.set(model, page);
    const oldest = pages.size > maxModels ? pages.keys().next().value : undefined;
    if (oldest !== undefined) pages.delete(oldest);
    return page;
  }

  function write(page: Page, event: JournalEvent): void {
    page.events.push(event);
    if (page.events.length > maxEvents) page.events.shift();
  }

  return {
    onCopies(podId, changes) {
      const atMs = clock.now();
      for (const change of changes) {
        const { model, revision, state } = change;
        const page = turnTo(model);
        const last = page.events.findLast((event) => event.pod === podId && event.revision === revision);
        // A snapshot after a Link's break tells again what is known.
        if (last?.what === state && state !== "failed") continue;
        const failure = "failure" in change ? change.failure : undefined;
        write(page, { atMs, what: state, revision, pod: podId, ...(failure === undefined ? {} : { reason: failure.reason }) });
        const key = copyKey(change);
        if (state === "failed" && failure !== undefined) page.failures.set(key, { ...failure, atMs, pod: podId });
        if (state === "ready") page.failures.delete(key);
        const oldest = page.failures.size > maxEvents ? page.failures.keys().next().value : undefined;
        if (oldest !== undefined) page.failures.delete(oldest);
      }
    },
    note(model, event) {
      const atMs = clock.now();
      const page = turnTo(model);
      const last = page.events.at(-1);
      // A thousand requests that wait for one load are one event.
      if (event.what === "waited" && last?.what === "waited" && atMs - last.atMs < sameMs) return;
      write(page, { atMs, ...event });
    },
    events: (model) => [...(pages.get(model)?.events ?? [])],
    since: (model, revision, podId) =>
      pages.get(model)?.events.findLast((event) => event.pod === podId && event.revision === revision)?.atMs,
    lastFailure: (model, revision) => pages.get(model)?.failures.get(copyKey({ model, revision })),
  };
}
