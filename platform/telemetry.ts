// Owns the wiring of traces. Without an OTLP endpoint a tracer does nothing and the SDK is not even loaded.
// Envoy's trace context comes in the headers of a call, so our spans hang below Envoy's.
import type { Context, Span, Tracer } from "@opentelemetry/api";
import { INVALID_SPAN_CONTEXT, ROOT_CONTEXT, SpanStatusCode, trace } from "@opentelemetry/api";

export interface TracerOptions {
  readonly service: string;
  /** The OTLP/HTTP base address, as in OTEL_EXPORTER_OTLP_ENDPOINT; nothing is traced without it. */
  readonly endpoint?: string | undefined;
}

export interface OwnedTracer extends AsyncDisposable {
  readonly tracer: Tracer;
}

const flushDeadlineMs = 2_000;

export async function createTracer(options: TracerOptions): Promise<OwnedTracer> {
  const { service, endpoint } = options;
  if (endpoint === undefined || endpoint === "") return { tracer: silentTracer, [Symbol.asyncDispose]: () => Promise.resolve() };
  const [{ BatchSpanProcessor, TracerProvider }, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/exporter-trace-otlp-http"),
    import("@opentelemetry/resources"),
  ]);
  const exporter = new OTLPTraceExporter({ url: `${endpoint.replace(/\/+$/, "")}/v1/traces`, timeoutMillis: flushDeadlineMs });
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ "service.name": service }),
    spanProcessors: [new BatchSpanProcessor({ exporter, maxQueueSize: 2_048 })],
  });
  return {
    tracer: provider.getTracer(service),
    async [Symbol.asyncDispose](): Promise<void> {
      // A collector that is gone does not hold up the end of the process.
      await provider.shutdown().catch(() => undefined);
    },
  };
}

const silentSpan = trace.wrapSpanContext(INVALID_SPAN_CONTEXT);

/** Its spans record nothing. */
const silentTracer: Tracer = {
  startSpan: () => silentSpan,
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

/** Ends the span with the failure, if there is one. */
export function endSpan(span: Span, failure?: string): void {
  if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
  span.end();
}
