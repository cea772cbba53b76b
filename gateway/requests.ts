// Owns what a gateway does for requests that Envoy asks about, put together: misses, reroutes, shares of revisions that have
// no copy, and the list of models. Hits come to none of it.
import type { Patiences } from "#core/patience.ts";
import type { Histogram } from "#core/samples.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { setClusterOf, type Xds } from "#xds/main.ts";
import type { ListIndex } from "./about.ts";
import { type Access, openToAll } from "./access.ts";
import type { Book } from "./book.ts";
import { createProcessor, type MissAnswer, type Processor } from "./extproc/service.ts";
import type { Fleet } from "./fleet.ts";
import type { Journal } from "./journal.ts";
import type { Links } from "./links.ts";
import { createListing } from "./listing.ts";
import type { Loads } from "./loads.ts";
import { type GatewayMetrics, recordAnswer } from "./metrics.ts";
import type { GatewayOptions } from "./options.ts";
import type { Quotas } from "./quotas.ts";
import { createReroutes } from "./reroutes.ts";
import type { Routes } from "./routes.ts";
import { createShares, type Shares } from "./shares.ts";
import { type MissSpans, silentSpan } from "./spans.ts";
import type { Suspects } from "./suspects.ts";

export interface Requests {
  readonly processor: Processor;
  readonly shares: Shares;
  readonly listIndex: ListIndex;
}

export interface RequestsParts {
  readonly options: Pick<GatewayOptions, "loadTimeoutMs" | "maxParkMs">;
  readonly book: Book;
  readonly fleet: Fleet;
  readonly loads: Loads;
  readonly routes: Routes;
  readonly suspects: Suspects;
  readonly table: Xds["table"];
  readonly links: Pick<Links, "verify">;
  readonly patiences: Patiences;
  readonly quotas: Pick<Quotas, "tenantOf">;
  readonly access: Access;
  readonly journal: Pick<Journal, "note">;
  readonly metrics: GatewayMetrics;
  /** How long requests waited. */
  readonly waits: Histogram;
  readonly spans: MissSpans;
  readonly isReady: () => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is loaded for them ends with the signal. */
export function createRequests(parts: RequestsParts, signal: AbortSignal): Requests {
  const { options, book, loads, routes, patiences, quotas, access, journal, metrics, waits, clock } = parts;
  const findModel = (name: string): ReturnType<Book["get"]> => book.get(name);
  const reroutes = createReroutes({
    ...parts,
    podsOf: (cluster) => parts.table.podsOf(setClusterOf(cluster)),
    isCurrent: (cluster) => parts.table.isCurrent(setClusterOf(cluster)),
    verify: (podId, model, revision) => parts.links.verify(podId, model, revision),
    patienceOf: (model) => patiences.of(model),
    onOutlasted: (model, patience, heldMs) => patiences.outlasted(model, patience, heldMs, clock.monotonicMs()),
  });
  const shares = createShares({
    findModel,
    lacking: (model) => routes.lacking(model),
    load: (model, revision) =>
      loads.ensure(model, {
        revision,
        loadClass: "scale-up",
        deadlineMs: clock.monotonicMs() + options.loadTimeoutMs,
        signal,
        span: silentSpan,
      }),
  });
  const listing = createListing({
    count: () => book.count,
    names: () => book.known(),
    routes,
    mayCall: (principal, name) => access.refusal(principal, findModel(name)) === undefined,
    isGuarded: access !== openToAll,
    clock,
  });
  book.onModel((name) => listing.onModel(name));
  access.onRules(() => listing.onRules());

  function onAnswer(answer: MissAnswer): void {
    recordAnswer(metrics, answer);
    const { model, code, heldMs } = answer;
    if (model === undefined || (code === undefined && heldMs < 1)) return;
    const waited = `waited ${Math.round(heldMs)} ms for a copy`;
    journal.note(model, { what: "waited", reason: code === undefined ? waited : `${waited} and was refused: ${code}` });
  }

  const processor = createProcessor({
    ...parts,
    findModel,
    reroutes,
    tenantOf: (principal, model) => quotas.tenantOf(principal, model),
    maxParkMs: options.maxParkMs,
    onWaited: (ms) => waits.record(ms),
    onAnswer,
    listIndex: listing.list,
  });
  return { processor, shares, listIndex: listing.list };
}
