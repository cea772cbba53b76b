// Owns the spans of a miss, below Envoy's own span: its context comes in the metadata of the ext_proc stream, and only
// when the client sent one in the request's headers.
import type { Metadata } from "@grpc/grpc-js";
import type { Span, Tracer } from "@opentelemetry/api";
import { contextOfSpan, endSpan, traceContextFromHeaders } from "#platform/telemetry.ts";

export interface MissSpan {
  /** Undefined when nothing is traced. */
  readonly traceId: string | undefined;
  setModel(model: string): void;
  /** A part of the miss: `load` is the wait for a copy, `verify` the question whether a pod really holds one. */
  step(name: "load" | "verify"): { end(failure?: string): void };
  end(failure?: string): void;
}

export interface MissSpans {
  start(name: "miss" | "reroute", metadata: Metadata, headers: ReadonlyMap<string, string>): MissSpan;
}

export function createMissSpans(tracer: Tracer): MissSpans {
  return {
    start(name, metadata, headers) {
      const parent = traceContextFromHeaders((key) => {
        const [value] = metadata.get(key);
        return typeof value === "string" ? value : headers.get(key);
      });
      return wrap(tracer, tracer.startSpan(name, {}, parent));
    },
  };
}

function wrap(tracer: Tracer, span: Span): MissSpan {
  return {
    traceId: span.isRecording() ? span.spanContext().traceId : undefined,
    setModel: (model) => void span.setAttribute("warmpath.model", model),
    step(name) {
      const child = tracer.startSpan(name, {}, contextOfSpan(span));
      return { end: (failure) => endSpan(child, failure) };
    },
    end: (failure) => endSpan(span, failure),
  };
}

/** For loads that no request waits for. */
export const silentSpan: MissSpan = {
  traceId: undefined,
  setModel: () => undefined,
  step: () => ({ end: () => undefined }),
  end: () => undefined,
};
