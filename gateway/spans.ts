// Owns the steps of a miss: as spans below Envoy's own span, where traces are on, and as a record of what took how long,
// always. Envoy's context comes in the metadata of the ext_proc stream, and only when the client sent one in the
// request's headers.
//
//   miss | reroute
//     park                 held until a copy is ready and routed, or until it is refused
//       home               another gateway is asked to decide
//       place              a pod is chosen
//       ask                from the Load sent to a pod until it says ready; the adapter's spans hang below
//       ack                until Envoy has what leads there
//     verify               does a pod really hold the copy?
//
// Steps of a load that many requests wait for hang below the first of them.
import type { Metadata } from "@grpc/grpc-js";
import type { Attributes, Span, Tracer } from "@opentelemetry/api";
import type { Clock } from "#platform/clock.ts";
import { contextOfSpan, endSpan, traceContextFromHeaders, traceparentOf } from "#platform/telemetry.ts";

export type StepName = "park" | "home" | "place" | "ask" | "ack" | "verify";
/** What a pod does for a load, in order; as spans, its adapter tells them. */
export const partNames = ["queue", "pull", "turn", "load", "measure"] as const;
export type PartName = (typeof partNames)[number];
type Facts = Readonly<Record<string, string | number | boolean>>;

export interface Step {
  /** For whoever goes on elsewhere; undefined when nothing is traced. */
  readonly traceparent: string | undefined;
  set(facts: Facts): void;
  /** Something came about within it. */
  mark(what: "loading"): void;
  /** What just ended within it took these times, one after the other. */
  divide(parts: readonly { readonly name: PartName; readonly ms: number }[], facts: Facts): void;
  step(name: StepName, facts?: Facts): Step;
  /** Once; more often changes nothing. */
  end(failure?: string): void;
}

export interface MissSpan extends Step {
  /** Undefined when nothing is traced. */
  readonly traceId: string | undefined;
  setModel(model: string): void;
}

export interface MissSpans {
  start(name: "miss" | "reroute", metadata: Metadata, headers: ReadonlyMap<string, string>): MissSpan;
  /** What another gateway asks of this one. */
  resume(name: "ensure", traceparent: string | undefined): MissSpan;
}

export interface StepRecord {
  readonly name: string;
  readonly depth: number;
  /** Since the request came. */
  readonly fromMs: number;
  toMs: number | undefined;
  failure: string | undefined;
  facts: Facts;
  /** When this gateway heard that the pod had begun to load; not where it is known what the pod did when. */
  loadingMs: number | undefined;
}

export interface MissRecord {
  readonly kind: "miss" | "reroute";
  readonly model: string;
  /** Of the epoch. */
  readonly atMs: number;
  readonly tookMs: number;
  readonly failure: string | undefined;
  readonly traceId: string | undefined;
  readonly steps: readonly StepRecord[];
}

export interface MissSpansParts {
  readonly tracer: Tracer;
  readonly clock: Clock;
  /** Told of each miss and reroute at its end. */
  readonly onRecord: (record: MissRecord) => void;
}

/** What took less is not drawn. */
const leastPartMs = 0.05;
/** Rounds of a request that finds no rest are told no further. */
const maxSteps = 48;

export function createMissSpans({ tracer, clock, onRecord }: MissSpansParts): MissSpans {
  function open(span: Span, onEnd: (trail: Trail, model: string, failure: string | undefined) => void): MissSpan {
    const trail: Trail = { clock, tracer, startMs: clock.monotonicMs(), steps: [] };
    let model = "";
    let over = false;
    return {
      traceId: span.isRecording() ? span.spanContext().traceId : undefined,
      traceparent: traceparentOf(span),
      setModel(of) {
        model = of;
        span.setAttribute("warmpath.model", of);
      },
      set: (facts) => void span.setAttributes(prefixed(facts)),
      mark: () => undefined,
      divide: () => undefined,
      step: (step, facts) => openStep(trail, span, 0, step, facts),
      end(failure) {
        if (over) return;
        over = true;
        endSpan(span, failure);
        onEnd(trail, model, failure);
      },
    };
  }

  return {
    start(name, metadata, headers) {
      const parent = traceContextFromHeaders((key) => {
        const [value] = metadata.get(key);
        return typeof value === "string" ? value : headers.get(key);
      });
      const span = tracer.startSpan(name, {}, parent);
      return open(span, ({ startMs, steps }, model, failure) => {
        const tookMs = clock.monotonicMs() - startMs;
        const traceId =
          span.isRecording() || traceparentOf(span)?.endsWith("-01") === true ? span.spanContext().traceId : undefined;
        onRecord({ kind: name, model, atMs: clock.now() - tookMs, tookMs, failure, traceId, steps });
      });
    },
    resume(name, traceparent) {
      const parent = traceContextFromHeaders((key) => (key === "traceparent" ? traceparent : undefined));
      // Alone it would be a trace of a request that is told nowhere else.
      return traceparent === undefined ? silentSpan : open(tracer.startSpan(name, {}, parent), () => undefined);
    },
  };
}

interface Trail {
  readonly clock: Clock;
  readonly tracer: Tracer;
  readonly startMs: number;
  readonly steps: StepRecord[];
}

function openStep(trail: Trail, parent: Span, depth: number, name: StepName, facts: Facts = {}): Step {
  const { clock, tracer, startMs, steps } = trail;
  const span = tracer.startSpan(name, { attributes: prefixed(facts) }, contextOfSpan(parent));
  const now = (): number => clock.monotonicMs() - startMs;
  const record: StepRecord = { name, depth, fromMs: now(), toMs: undefined, failure: undefined, facts, loadingMs: undefined };
  if (steps.length < maxSteps) steps.push(record);
  return {
    traceparent: traceparentOf(span),
    set(more) {
      record.facts = { ...record.facts, ...more };
      span.setAttributes(prefixed(more));
    },
    mark(what) {
      record.loadingMs ??= now();
      span.addEvent(what);
    },
    divide(parts, of) {
      record.loadingMs = undefined;
      let toMs = now();
      const divided: StepRecord[] = [];
      for (const part of parts.toReversed()) {
        // The queue may be older than what waits here.
        const fromMs = Math.max(record.fromMs, toMs - part.ms);
        if (part.ms >= leastPartMs)
          divided.unshift({
            name: part.name,
            depth: depth + 1,
            fromMs,
            toMs,
            failure: undefined,
            facts: of,
            loadingMs: undefined,
          });
        toMs = fromMs;
      }
      steps.push(...divided.slice(0, maxSteps - steps.length));
    },
    step: (inner, more) => openStep(trail, span, depth + 1, inner, more),
    end(failure) {
      if (record.toMs !== undefined) return;
      record.toMs = now();
      record.failure = failure;
      endSpan(span, failure);
    },
  };
}

function prefixed(facts: Facts): Attributes {
  return Object.fromEntries(Object.entries(facts).map(([key, value]) => [`warmpath.${key}`, value]));
}

const silentStep: Step = {
  traceparent: undefined,
  set: () => undefined,
  mark: () => undefined,
  divide: () => undefined,
  step: () => silentStep,
  end: () => undefined,
};

/** For loads that no request waits for. */
export const silentSpan: MissSpan = { ...silentStep, traceId: undefined, setModel: () => undefined };
