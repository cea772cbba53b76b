// Owns what Envoy's access logs say of use: for each model how often and when last, for the pods that hold it; latency of
// hits. Off the request path and sampled: the share of requests logged is lowered as their rate grows, and each entry
// stands for as many requests as its share says, so a busy model stays ahead of an idle one.

import { errorCatalogue } from "#core/errors.ts";
import { createHistogram, type Histogram } from "#core/samples.ts";
import { grpcStatus, headers, serverScope } from "#envoy/names.ts";
import { retryBodyBytes } from "#envoy/retries.ts";
import type { Clock } from "#platform/clock.ts";
import type { LogEntry } from "./accesslog.ts";

export interface ModelUse {
  /** Requests that the entries stand for. */
  requests: number;
  /** Those of them that were answered well. */
  answered: number;
  /** Those of them that had waited for a load. */
  waited: number;
  /** The time of those that had not, in sum. */
  busyMs: number;
  /** How many of them one entry stood for, at most. */
  weight: number;
  lastUsedMs: number;
}

export interface Usage {
  onEntry(entry: LogEntry): void;
  /** What has come since it was last taken. */
  take(): ReadonlyMap<string, ModelUse>;
  /** Once a second: the share to sample from now on, in millionths. */
  adjust(): number;
  /** Of hits, since the start. */
  readonly latency: Histogram;
  /** Of requests that waited. */
  readonly waited: Histogram;
  /** Of requests, the share whose entries come now. */
  readonly share: number;
  readonly hits: number;
  readonly errors: number;
}

/** Entries a second that are worth their cost, here and in Envoy. */
const wantedPerSecond = 200;
/** After a change entries still come as Envoy logged them before: it hears of it, and sends what it has gathered. */
const settleMs = 1_500;
/** So many seconds in a row it must be too few before the share rises: a pause in the traffic is no reason to log all of it. */
const patience = 5;
const whole = 1_000_000;
const maxModels = 100_000;
const notFound = `${errorCatalogue["model-not-found"].grpc}`;

/** As a route has written it: the slot behind the name. */
const restModel = /^\/v[12]\/models\/([A-Za-z0-9._-]{1,253})(?:~\d{1,2})?(?:[/:?]|$)/;

/** What an entry says of a model. */
export interface SampledUse {
  readonly model: string;
  /** How many it stands for. */
  readonly requests: number;
  /** From the first byte of the request to the last of its answer; undefined when it waited for a load. */
  readonly tookMs: number | undefined;
  /** The client may have been told that its model is not there, for its request was too large to be sent to another pod. */
  readonly isAbsence: boolean;
}

/** `onUse`: told of each entry. */
export function createUsage(clock: Clock, onUse: (use: SampledUse) => void = () => undefined): Usage {
  let uses = new Map<string, ModelUse>();
  let share = whole;
  /** What entries that come now stand for: until a lower share has settled, that of before. */
  let shareBefore = whole;
  let changedMs = Number.NEGATIVE_INFINITY;
  let calm = 0;
  let entries = 0;
  let hits = 0;
  let errors = 0;
  let adjustedMs = clock.monotonicMs();
  const latency = createHistogram();
  const waited = createHistogram();

  function hasSettled(): boolean {
    return clock.monotonicMs() - changedMs >= settleMs;
  }

  function change(next: number): void {
    shareBefore = share;
    share = next;
    changedMs = clock.monotonicMs();
    calm = 0;
  }

  return {
    onEntry(entry) {
      const { path, requestHeaders, responseHeaders, status, tookMs, reachedPod } = entry;
      entries += 1;
      // A local answer of Envoy or of the gateway used no model.
      if (!reachedPod) return;
      const weight = whole / (hasSettled() ? share : Math.max(share, shareBefore));
      if (status >= 500) errors += weight;
      const named = requestHeaders.get(headers.publicName) ?? requestHeaders.get(headers.model);
      const model = named ?? restModel.exec(path)?.[1];
      // Calls about the server, health checks among them, are no use of a model and no hits.
      if (model === undefined || model === serverScope) return;
      const hasWaited = responseHeaders.has(headers.loadMs);
      if (!hasWaited) {
        hits += weight;
        if (tookMs !== undefined) latency.record(tookMs, weight);
      } else if (tookMs !== undefined) waited.record(tookMs, weight);
      onUse({ model, requests: weight, tookMs: hasWaited ? undefined : tookMs, isAbsence: isAbsence(entry) });
      const use = uses.get(model);
      const nowMs = clock.monotonicMs();
      const answered = status >= 200 && status < 400 && !responseHeaders.has(grpcStatus) ? weight : 0;
      const busyMs = hasWaited ? 0 : (tookMs ?? 0) * weight;
      const waitedWeight = hasWaited ? weight : 0;
      if (use !== undefined) {
        use.requests += weight;
        use.answered += answered;
        use.waited += waitedWeight;
        use.busyMs += busyMs;
        use.weight = Math.max(use.weight, weight);
        use.lastUsedMs = nowMs;
      } else if (uses.size < maxModels)
        uses.set(model, { requests: weight, answered, waited: waitedWeight, busyMs, weight, lastUsedMs: nowMs });
    },
    take() {
      const taken = uses;
      uses = new Map();
      return taken;
    },
    adjust() {
      const nowMs = clock.monotonicMs();
      // What came in this window was logged by the share of before: judged by the new one it would be lowered again and again.
      if (!hasSettled()) {
        entries = 0;
        adjustedMs = nowMs;
        return share;
      }
      const perSecond = entries / Math.max((nowMs - adjustedMs) / 1_000, 0.001);
      entries = 0;
      adjustedMs = nowMs;
      const wanted = Math.min(whole, Math.floor((share * wantedPerSecond) / Math.max(perSecond, 1)));
      // Moved in powers of two, and only when it is off by more than one: each move is a push to Envoy. Down at once, up
      // step by step.
      const rounded = 2 ** Math.ceil(Math.log2(whole / Math.max(wanted, 1)));
      const next = Math.max(100, Math.floor(whole / rounded));
      calm = next > share * 1.9 ? calm + 1 : 0;
      if (next < share / 1.9) change(next);
      else if (calm >= patience) change(Math.min(whole, share * 2));
      return share;
    },
    latency,
    waited,
    get share() {
      return share / whole;
    },
    get hits() {
      return hits;
    },
    get errors() {
      return errors;
    },
  };
}

/** Marked, or the status that says so on servers that do not mark it, to a request that was not kept for another try. */
function isAbsence({ responseHeaders, status, requestBytes }: LogEntry): boolean {
  if (responseHeaders.has(headers.notHere)) return true;
  return requestBytes > retryBodyBytes && (status === 404 || responseHeaders.get(grpcStatus) === notFound);
}
