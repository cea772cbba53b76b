// Owns how a flight ends, and which pod it counts on until then: it is ready and Envoy has the pod's entry, or it failed.
// Either way its waiters are answered, what it held is released, and a failure is remembered for a while.
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { logKeysOf } from "#platform/telemetry.ts";
import type { Backoffs } from "./backoffs.ts";
import type { Decisions } from "./decisions.ts";
import type { Failure } from "./failure.ts";
import type { Ensured, Flight, Waiter } from "./flight.ts";
import type { Flights } from "./flights.ts";
import type { Placements } from "./placements.ts";
import type { Routes } from "./routes.ts";
import type { Suspects } from "./suspects.ts";

export interface Landings {
  /** `failure`: why the pod that had it is not waited for any more, when it is that. */
  assign(flight: Flight, podId: string | undefined, failure?: string): void;
  note(flight: Flight, kind: Parameters<Decisions["record"]>[0]["kind"], reason: string, podId?: string): void;
  land(flight: Flight, result: (waiter: Waiter) => Ensured): void;
  fail(flight: Flight, failure: Failure): void;
  /** The pod is ready: lands when Envoy has its entry. */
  goBy(flight: Flight, podId: string): void;
}

export interface LandingsParts {
  /** What lands is taken out. */
  readonly flights: Pick<Flights, "remove">;
  readonly backoffs: Pick<Backoffs, "failed" | "succeeded">;
  readonly placements: Pick<Placements, "asked" | "answered">;
  readonly routes: Pick<Routes, "entry" | "whenSettled">;
  readonly suspects: Pick<Suspects, "check">;
  readonly decisions: Pick<Decisions, "record">;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly log: Log;
}

/** Made once: an abort without a reason makes an error with a stack trace, each time. */
const landed = new Error("the flight has landed");

export function createLandings(parts: LandingsParts): Landings {
  const { flights, backoffs, placements, routes, decisions, clock, log } = parts;

  function assign(flight: Flight, podId: string | undefined, failure?: string): void {
    flight.ask?.end(failure);
    flight.ask = undefined;
    if (flight.podId !== undefined) placements.answered(flight.podId);
    flight.podId = podId;
    if (podId !== undefined) placements.asked(podId);
  }

  function note(flight: Flight, kind: Parameters<Landings["note"]>[1], reason: string, podId?: string): void {
    decisions.record({ kind, model: flight.model.name, revision: flight.revision.id, reason, podId });
  }

  function land(flight: Flight, result: (waiter: Waiter) => Ensured): void {
    flights.remove(flight);
    clearTimeout(flight.timer);
    flight.leaveHome?.();
    flight.leaveHome = undefined;
    flight.home?.end();
    assign(flight, undefined);
    flight.stop.abort(landed);
    flight.held?.release();
    for (const waiter of Array.from(flight.waiters)) waiter.answer(result(waiter));
  }

  function fail(flight: Flight, failure: Failure): void {
    const retryAfterMs = failure.retryAfterMs ?? backoffs.failed(flight.key, failure);
    const { code, reason } = failure;
    const of = { model: flight.model.name, revision: flight.revision.id, ...logKeysOf(flight.span.traceparent) };
    log.warn("a load failed", { ...of, code, reason });
    note(flight, "failed", `${code}: ${reason}`);
    land(flight, () => ({ ...failure, retryAfterMs }));
  }

  async function finish(flight: Flight, podId: string): Promise<void> {
    const keptOff = parts.suspects.check(flight.key);
    if (keptOff !== undefined) return fail(flight, keptOff);
    const entry = routes.entry(podId, flight.revision.slot);
    // The pod was given up this moment: its copies are gone next, or the load's own time ends; either moves the flight on.
    if (entry === undefined) return;
    clearTimeout(flight.timer);
    flight.timer = undefined;
    assign(flight, undefined);
    const ack = flight.span.step("ack", { pod: podId });
    await routes.whenSettled(entry, flight.stop.signal).finally(() => ack.end());
    backoffs.succeeded(flight.key);
    const nowMs = clock.monotonicMs();
    land(flight, (waiter) => ({ kind: "live", waitedMs: nowMs - waiter.arrivedMs, entry }));
  }

  function goBy(flight: Flight, podId: string): void {
    // Stopping the wait is the only way it rejects, and then the flight has landed.
    finish(flight, podId).catch(() => undefined);
  }

  return { assign, note, land, fail, goBy };
}
