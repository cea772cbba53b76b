// Owns the spans of an adapter: a load below the request that waits for it, and the evictions that make room for it.
//
//   load (from the first ask)
//     queue, pull, turn, server-load, measure
//   evict
//     withdraw, unload
//
// A load that no traced request waits for has no spans.
import { type Context, ROOT_CONTEXT, type Span, type Tracer } from "@opentelemetry/api";
import { contextOfSpan, endSpan, traceContextFromHeaders } from "#platform/telemetry.ts";
import { type AgentWatch, noWatch } from "./agent/watch.ts";

export function createTraceWatch(tracer: Tracer, podId: string, nowMs: () => number = epochMs): AgentWatch {
  const parentOf = (traceparent: string | undefined): Context | undefined => {
    const parent = traceContextFromHeaders((key) => (key === "traceparent" ? traceparent : undefined));
    return parent === ROOT_CONTEXT ? undefined : parent;
  };
  return {
    ...noWatch,
    loadStarts(load) {
      const parent = parentOf(load.traceparent);
      if (parent === undefined) return noWatch.loadStarts(load);
      const { model, revision, loadClass, reservedBytes, queuedMs } = load;
      const startMs = nowMs();
      const askedMs = startMs - queuedMs;
      const span = tracer.startSpan(
        "load",
        {
          startTime: askedMs,
          attributes: {
            "warmpath.pod": podId,
            "warmpath.model": model,
            "warmpath.revision": revision,
            "warmpath.class": loadClass,
            "warmpath.reserved_bytes": reservedBytes,
          },
        },
        parent,
      );
      child(span, "queue", askedMs).end(startMs);
      // Each begins where the one before it ended: what lies between belongs to what comes.
      let lastMs = startMs;
      return {
        step(name) {
          const step = child(span, name === "server" ? "server-load" : name, lastMs);
          return (failure) => {
            lastMs = nowMs();
            endSpan(step, failure, lastMs);
          };
        },
        end(end) {
          if (end.kind === "ok") span.setAttribute("warmpath.size_bytes", end.sizeBytes);
          else span.setAttribute("warmpath.fault", end.failure);
          endSpan(span, end.kind === "ok" ? undefined : end.reason);
        },
      };
    },
    leaves(copy) {
      const parent = parentOf(copy.traceparent);
      if (parent === undefined) return noWatch.leaves(copy);
      const { model, revision, sizeBytes, idleMs } = copy;
      const attributes = {
        "warmpath.pod": podId,
        "warmpath.model": model,
        "warmpath.revision": revision,
        "warmpath.size_bytes": sizeBytes,
        "warmpath.idle_ms": Math.round(idleMs),
      };
      const span = tracer.startSpan("evict", { attributes }, parent);
      const withdraw = child(span, "withdraw", nowMs());
      let unload: Span | undefined;
      return {
        withdrawn() {
          if (unload === undefined) withdraw.end();
          unload = child(span, "unload", nowMs());
        },
        unloaded(failure) {
          if (unload !== undefined) endSpan(unload, failure);
          // What failed is tried again; the copy is gone with the one that does not.
          if (failure === undefined) span.end();
        },
      };
    },
  };

  function child(span: Span, name: string, startTime: number): Span {
    return tracer.startSpan(name, { startTime }, contextOfSpan(span));
  }
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Tells both. */
export function joinWatches(one: AgentWatch, other: AgentWatch): AgentWatch {
  return {
    loadStarts(load) {
      const [a, b] = [one.loadStarts(load), other.loadStarts(load)];
      return {
        step(name) {
          const [endA, endB] = [a.step(name), b.step(name)];
          return (failure) => {
            endA(failure);
            endB(failure);
          };
        },
        end(end) {
          a.end(end);
          b.end(end);
        },
      };
    },
    probeFailed(failure) {
      one.probeFailed(failure);
      other.probeFailed(failure);
    },
    refused(why) {
      one.refused(why);
      other.refused(why);
    },
    leaves(copy) {
      const [a, b] = [one.leaves(copy), other.leaves(copy)];
      return {
        withdrawn() {
          a.withdrawn();
          b.withdrawn();
        },
        unloaded(failure) {
          a.unloaded(failure);
          b.unloaded(failure);
        },
      };
    },
  };
}
