// Owns the wiring of traces. Without an OTLP endpoint a tracer does nothing and the SDK is not even loaded.
// Envoy's trace context comes in the headers of a call, so our spans hang below Envoy's.
import type { Context, Span, Tracer } from "@opentelemetry/api";
import { INVALID_SPAN_CONTEXT, isSpanContextValid, ROOT_CONTEXT, SpanStatusCode, trace } from "@opentelemetry/api";
import type { SpanExporter } from "@opentelemetry/sdk-trace";
import type { LogKeys } from "./log.ts";

export interface TracerOptions {
  readonly service: string;
  /** Which of several processes of the service. */
  readonly instance?: string | undefined;
  /** The collector's base address, as in OTEL_EXPORTER_OTLP_ENDPOINT; nothing is traced without it. */
  readonly endpoint?: string | undefined;
  /** By the endpoint's port when absent: 4317 is gRPC. */
  readonly protocol?: OtlpProtocol | undefined;
  /** Of requests that come without a trace context, the share that is traced; 1 when absent. */
  readonly share?: number | undefined;
}

export type OtlpProtocol = "http" | "grpc";

export interface OwnedTracer extends AsyncDisposable {
  readonly tracer: Tracer;
}

const flushDeadlineMs = 2_000;
const flushEveryMs = 1_000;

/** 4317 is the port of OTLP over gRPC by convention. */
export function chooseOtlpProtocol(endpoint: string): OtlpProtocol {
  return URL.parse(endpoint)?.port === "4317" ? "grpc" : "http";
}

export async function createTracer(options: TracerOptions): Promise<OwnedTracer> {
  const { service, instance, endpoint, share = 1 } = options;
  if (endpoint === undefined || endpoint === "") return { tracer: silentTracer, [Symbol.asyncDispose]: () => Promise.resolve() };
  const [
    { BatchSpanProcessor, ParentBasedSampler, TraceIdRatioBasedSampler, TracerProvider },
    { resourceFromAttributes },
    exporter,
  ] = await Promise.all([
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/resources"),
    createExporter(endpoint.replace(/\/+$/, ""), options.protocol ?? chooseOtlpProtocol(endpoint)),
  ]);
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      "service.name": service,
      ...(instance === undefined ? {} : { "service.instance.id": instance }),
    }),
    // Whoever began a trace has decided on it.
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(share) }),
    spanProcessors: [new BatchSpanProcessor({ exporter, maxQueueSize: 8_192, scheduledDelayMillis: flushEveryMs })],
  });
  return {
    tracer: provider.getTracer(service),
    async [Symbol.asyncDispose](): Promise<void> {
      // A collector that is gone does not hold up the end of the process.
      await provider.shutdown().catch(() => undefined);
    },
  };
}

async function createExporter(endpoint: string, protocol: OtlpProtocol): Promise<SpanExporter> {
  if (protocol === "grpc") {
    const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-grpc");
    return new OTLPTraceExporter({ url: endpoint, timeoutMillis: flushDeadlineMs });
  }
  const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-http");
  return new OTLPTraceExporter({ url: `${endpoint}/v1/traces`, timeoutMillis: flushDeadlineMs });
}

const silentSpan = trace.wrapSpanContext(INVALID_SPAN_CONTEXT);

/** Its spans record nothing and stand for what is above them: a client's own trace goes on through us, and into the logs. */
const silentTracer: Tracer = {
  startSpan(_name, _options, above = ROOT_CONTEXT) {
    const context = trace.getSpanContext(above);
    return context !== undefined && isSpanContextValid(context) ? trace.wrapSpanContext(context) : silentSpan;
  },
  startActiveSpan: (): never => {
    throw new Error("spans are passed explicitly, never made active");
  },
};

const traceparentForm = /^00-(?<traceId>[0-9a-f]{32})-(?<spanId>[0-9a-f]{16})-(?<flags>[0-9a-f]{2})$/;

/** The parent in the W3C `traceparent` that `header` finds; the root context when there is none or it is malformed. */
export function traceContextFromHeaders(header: (name: string) => string | undefined): Context {
  const found = traceparentForm.exec(header("traceparent")?.trim() ?? "")?.groups;
  const traceId = found?.["traceId"];
  const spanId = found?.["spanId"];
  if (traceId === undefined || spanId === undefined || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId,
    spanId,
    traceFlags: Number.parseInt(found?.["flags"] ?? "00", 16),
    isRemote: true,
  });
}

/** The context below this span: for child spans. */
export function contextOfSpan(span: Span): Context {
  return trace.setSpan(ROOT_CONTEXT, span);
}

/** The `traceparent` to send on; undefined for a span that records nothing. */
export function traceparentOf(span: Span): string | undefined {
  const { traceId, spanId, traceFlags } = span.spanContext();
  return traceId === INVALID_SPAN_CONTEXT.traceId
    ? undefined
    : `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
}

/**
 * What log lines of a request carry; nothing when it belongs to no trace.
 * Source: https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
 */
export function logKeysOf(traceparent: string | undefined): LogKeys {
  const found = traceparentForm.exec(traceparent ?? "")?.groups;
  return found === undefined ? {} : { trace_id: found["traceId"], span_id: found["spanId"] };
}

/** Ends the span with the failure, if there is one; now, unless a time of the epoch is given. */
export function endSpan(span: Span, failure?: string, atMs?: number): void {
  if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
  span.end(atMs);
}
