// Owns the ext_proc streams: one for each request that had no route, or that every pod of its set failed.
// One message in, one out: read the headers, decide, answer. A stream that ends before the answer is a client gone.
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { type ErrorCode, errorMessage } from "#core/errors.ts";
import { activeRevision, type Model, type ModelName } from "#core/model.ts";
import { askedBy, headers } from "#envoy/names.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { logKeysOf } from "#platform/telemetry.ts";
import { type IndexEntry, type ListIndex, serverMetadata, tooMany, tooManyLists } from "../about.ts";
import type { Access } from "../access.ts";
import type { Failure } from "../failure.ts";
import type { Loads } from "../loads.ts";
import type { Reroutes } from "../reroutes.ts";
import { type MissSpan, type MissSpans } from "../spans.ts";
import { goOn, json, jsonText, leaveToFirst, refuse, reroute } from "./answer.ts";
import { decodeProcessing, encodeProcessing, type ProcessingAnswer, type ProcessingEvent } from "./codec.ts";
import { type MissRequest, parseMiss, parseReroute, parseRerouting, type Rerouting, type ServerCall } from "./request.ts";

/** Codecs for platform/grpc's serviceDefinition. */
export const processCodecs = {
  process: { requestDeserialize: decodeProcessing, responseSerialize: encodeProcessing },
} as const;

export type ProcessorCounts = Readonly<MissCounts>;

interface MissCounts {
  /** Requests that came here, whatever became of them. */
  requests: number;
  /** Inference requests that had no route. */
  misses: number;
  reroutes: number;
  refused: number;
  failed: number;
  /** Streams with something that is no request's headers. */
  odd: number;
}

export interface ProcessorParts {
  readonly findModel: (name: ModelName) => Model | undefined;
  readonly loads: Loads;
  readonly reroutes: Reroutes;
  readonly clock: Clock;
  readonly log: Log;
  readonly spans: MissSpans;
  /** Longest time that a request is held, and how long one without a limit of its own is. */
  readonly maxParkMs: number;
  readonly onWaited: (ms: number) => void;
  /** Told of each answer to an inference request, once. */
  readonly onAnswer: (answer: MissAnswer) => void;
  readonly isReady: () => boolean;
  readonly listIndex: ListIndex;
  readonly access: Access;
  /** Whom a request counts against. */
  readonly tenantOf: (principal: string | undefined, model: Model) => string;
}

export interface MissAnswer {
  /** A hedge is a reroute whose first try has said nothing yet, and goes on. */
  readonly kind: "miss" | "reroute" | "hedge";
  /** Undefined when the path named no inference call. */
  readonly wire: "rest" | "grpc" | undefined;
  readonly model: string | undefined;
  /** Undefined when the request went on to a pod. */
  readonly code: ErrorCode | undefined;
  readonly heldMs: number;
  readonly traceId: string | undefined;
}

export type ProcessStream = ServerDuplexStream<ProcessingEvent, ProcessingAnswer>;

export interface Processor {
  readonly process: (stream: ProcessStream) => void;
  readonly counts: ProcessorCounts;
}

/** Made once: an abort without a reason makes an error with a stack trace, each time. */
const streamOver = new Error("the stream is over");

export function createProcessor(parts: ProcessorParts): Processor {
  const { clock, log } = parts;
  const counts: MissCounts = { requests: 0, misses: 0, reroutes: 0, refused: 0, failed: 0, odd: 0 };

  async function decide(
    request: MissRequest,
    principal: string | undefined,
    rerouted: Rerouting | undefined,
    signal: AbortSignal,
    span: MissSpan,
  ): Promise<ProcessingAnswer> {
    switch (request.kind) {
      case "refused":
        counts.refused += 1;
        return refuse(request.code, request.reason);
      case "server":
        return await describeServer(request.what, principal, parts);
      case "infer":
        return await infer(request, principal, rerouted, signal, span);
    }
  }

  async function infer(
    request: Extract<MissRequest, { kind: "infer" }>,
    principal: string | undefined,
    rerouted: Rerouting | undefined,
    signal: AbortSignal,
    span: MissSpan,
  ): Promise<ProcessingAnswer> {
    counts.misses += rerouted === undefined ? 1 : 0;
    counts.reroutes += rerouted === undefined ? 0 : 1;
    span.setModel(request.model);
    const model = parts.findModel(request.model);
    // Who was let in for the first try is for the second.
    const turnedAway = rerouted !== undefined ? undefined : parts.access.refusal(principal, model);
    if (turnedAway !== undefined) {
      counts.refused += 1;
      return refuse(turnedAway.code, turnedAway.reason);
    }
    if (model === undefined) {
      counts.refused += 1;
      return refuse("model-not-found", `Model ${request.model} not found`);
    }
    const startMs = clock.monotonicMs();
    const deadlineMs = startMs + Math.min(request.timeoutMs ?? parts.maxParkMs, parts.maxParkMs);
    const options = { deadlineMs, signal, span, priority: request.priority };
    if (rerouted !== undefined) {
      const find = rerouted.isHedge ? parts.reroutes.hedge : parts.reroutes.find;
      const found = await find(model, activeRevision(model), { wire: request.wire, from: rerouted.from }, options);
      if (found.kind === "left") return leaveToFirst(refused(found.failure));
      if (found.kind === "failed") return refused(found);
      parts.onWaited(clock.monotonicMs() - startMs);
      return reroute(clock.monotonicMs() - startMs, request, found.to);
    }
    const ensured = await parts.loads.ensure(model, { ...options, tenant: parts.tenantOf(principal, model) });
    if (ensured.kind === "failed") return refused(ensured);
    parts.onWaited(ensured.waitedMs);
    parts.access.letIn(principal, request.model);
    return goOn(ensured.waitedMs, request, ensured.entry, principal);
  }

  function refused(failure: Failure): ProcessingAnswer {
    counts.failed += 1;
    return refuse(failure.code, failure.reason, failure.retryAfterMs);
  }

  function serve(stream: ProcessStream, event: Extract<ProcessingEvent, { kind: "request-headers" }>, signal: AbortSignal): void {
    counts.requests += 1;
    const startMs = clock.monotonicMs();
    const rerouted = stream.metadata.get(askedBy.filter).includes("reroute") ? parseRerouting(event.headers) : undefined;
    const request =
      rerouted !== undefined ? parseReroute(event.headers) : parseMiss(event.headers, event.repeated, portOf(stream));
    const span = parts.spans.start(rerouted !== undefined ? "reroute" : "miss", stream.metadata, event.headers);
    const answered = decide(request, event.headers.get(headers.principal), rerouted, signal, span).catch((error: unknown) => {
      log.error("a miss could not be decided", { error, ...logKeysOf(span.traceparent) });
      return refuse("internal", errorMessage(error));
    });
    void answered.then((answer) => {
      if (request.kind !== "server") {
        const [wire, model] = request.kind === "infer" ? [request.wire, request.model] : [undefined, undefined];
        const code = answer.kind === "immediate" ? answer.code : undefined;
        const heldMs = clock.monotonicMs() - startMs;
        parts.onAnswer({ kind: kindOf(rerouted), wire, model, code, heldMs, traceId: span.traceId });
      }
      span.end(answer.kind === "immediate" && answer.httpStatus >= 400 ? (answer.code ?? answer.details) : undefined);
      if (signal.aborted) return;
      stream.write(answer);
      stream.end();
    });
  }

  return {
    counts,
    process(stream) {
      const gone = new AbortController();
      let served = false;
      stream.on("data", (event: ProcessingEvent) => {
        if (event.kind === "request-headers" && !served) {
          served = true;
          serve(stream, event, gone.signal);
        } else counts.odd += 1;
      });
      stream.on("error", () => gone.abort(streamOver));
      stream.on("cancelled", () => gone.abort(streamOver));
      // Envoy half-closes when its client has gone; when we have answered, nobody listens any more.
      stream.on("end", () => {
        gone.abort(streamOver);
        stream.end();
      });
    },
  };
}

/** What the port is for that the request came by. */
function portOf({ metadata }: ProcessStream): "rest" | "grpc" | undefined {
  const [port] = metadata.get(askedBy.port);
  return port === "rest" || port === "grpc" ? port : undefined;
}

function kindOf(rerouted: Rerouting | undefined): MissAnswer["kind"] {
  if (rerouted === undefined) return "miss";
  return rerouted.isHedge ? "hedge" : "reroute";
}

async function describeServer(what: ServerCall, principal: string | undefined, parts: ProcessorParts): Promise<ProcessingAnswer> {
  switch (what) {
    case "live":
      return json({ live: true });
    case "ready":
      return parts.isReady() ? json({ ready: true }) : refuse("unavailable", "the gateway is not ready");
    case "metadata":
      return json(serverMetadata);
    case "index":
    case "index-ready":
    case "list": {
      const index = await parts.listIndex(principal, what === "index-ready" ? "ready" : "all");
      if (index.kind === "too-many") return refuse("invalid-request", tooMany(index.limit));
      if (index.kind === "busy") return refuse("queue-full", tooManyLists);
      return jsonText(what === "list" ? modelListOf(index.entries) : modelIndexOf(index.entries));
    }
  }
}

// Many callers may share one list, which is written once.
const modelIndexOf = onceFor((entries) => JSON.stringify(entries));
const modelListOf = onceFor((entries) => {
  // KServe's V1 reads `models`, OpenAI's clients read `data`.
  const models = entries.map(({ name }) => name);
  return JSON.stringify({ models, object: "list", data: models.map((id) => ({ id, object: "model", owned_by: "warmpath" })) });
});

function onceFor(write: (entries: readonly IndexEntry[]) => string): (entries: readonly IndexEntry[]) => string {
  const written = new WeakMap<readonly IndexEntry[], string>();
  return (entries) => {
    const text = written.get(entries) ?? write(entries);
    written.set(entries, text);
    return text;
  };
}
