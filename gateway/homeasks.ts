// Owns what a flight asks of the home of its model, while another gateway than this one is that: it decides, and is passed
// over when it does not answer, or says of itself that it cannot.
import type { ErrorCode } from "#core/errors.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { logKeysOf } from "#platform/telemetry.ts";
import type { Backoffs } from "./backoffs.ts";
import type { Decisions } from "./decisions.ts";
import type { Failure } from "./failure.ts";
import { type Flight, longestWaitMs } from "./flight.ts";
import type { Home, Member } from "./home.ts";
import type { Peers } from "./peers.ts";

export interface HomeAsks {
  /** Asks the home, or decides here when that is this gateway, or nobody else who could. */
  decide(flight: Flight): void;
}

export interface HomeAsksParts {
  readonly home: Pick<Home, "of" | "suspect">;
  readonly peers: Pick<Peers, "ensure">;
  readonly backoffs: Pick<Backoffs, "heard">;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly log: Log;
  /** How long a load may take. */
  readonly loadTimeoutMs: number;
  readonly note: (flight: Flight, kind: Parameters<Decisions["record"]>[0]["kind"], reason: string) => void;
  /** Goes on with what is known; decides when no home is asked. */
  readonly advance: (flight: Flight) => void;
  readonly land: (flight: Flight, failure: Failure) => void;
}

/** The home says that a copy is ready: so long it may take until our own Link says so too. */
const seenWithinMs = 2_000;
/** What the home says of itself, rather than of the model. */
const homesOwnFaults: readonly ErrorCode[] = ["model-not-found", "no-pods", "unavailable", "cancelled", "deadline-exceeded"];

export function createHomeAsks(parts: HomeAsksParts): HomeAsks {
  function decide(flight: Flight): void {
    const member = parts.home.of(flight.model.name, flight.passedOver);
    if (member === undefined) return parts.advance(flight);
    return askHome(flight, member);
  }

  function askHome(flight: Flight, member: Member): void {
    const { gatewayId } = member;
    const elsewhere = (reason: string): void => {
      flight.leaveHome = undefined;
      flight.home?.end(reason);
      flight.passedOver.add(gatewayId);
      parts.note(flight, "home-lost", `gateway ${gatewayId}: ${reason}`);
      decide(flight);
    };
    clearTimeout(flight.timer);
    flight.leaveHome?.();
    const { loadClass, priority } = flight;
    flight.home?.end();
    flight.home = flight.span.step("home", { gateway: gatewayId });
    const { traceparent } = flight.home;
    // Those who join may wait longer than whoever waits now. When nobody does, the ask is cancelled.
    const waitMs = Math.max(parts.loadTimeoutMs, longestWaitMs(flight, parts.clock.monotonicMs()));
    const { returnedFrom } = flight;
    const of = { model: flight.model.name, revision: flight.revision.id, returnedFrom };
    const ask = { ...of, loadClass, priority, waitMs, traceparent };
    parts.note(flight, "asked-home", `gateway ${gatewayId} decides on it`);
    flight.leaveHome = parts.peers.ensure(member, ask, {
      onReady(podIds) {
        flight.leaveHome = undefined;
        flight.home?.end();
        // Usually the Link was faster. If it stays silent, those pods are out of this gateway's reach.
        clearTimeout(flight.timer);
        flight.timer = setTimeout(() => {
          for (const podId of podIds) flight.excluded.set(podId, { reason: "it cannot be reached from here", untilMs: Infinity });
          elsewhere("its copies are out of reach from here");
        }, seenWithinMs);
      },
      onFailed(failure) {
        if (homesOwnFaults.includes(failure.code)) return elsewhere(failure.reason);
        flight.leaveHome = undefined;
        flight.home?.end(failure.code);
        parts.backoffs.heard(flight.key, failure);
        parts.note(flight, "failed", `${failure.code}: ${failure.reason}`);
        return parts.land(flight, failure);
      },
      onLost(reason) {
        parts.log.warn("a home gateway does not answer", { gatewayId, reason, ...logKeysOf(traceparent) });
        parts.home.suspect(gatewayId);
        elsewhere(reason);
      },
    });
    parts.advance(flight);
  }

  return { decide };
}
