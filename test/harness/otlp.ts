// Owns a real collector of traces for tests: OTLP over gRPC, and over HTTP in protobuf and JSON. It keeps every span.
// Spec: opentelemetry/proto/collector/trace/v1/trace_service.proto
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { WireReader } from "#platform/wire.ts";

export interface SeenSpan {
  readonly service: string;
  /** Which of several processes; empty where it does not say. */
  readonly instance: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty at the root. */
  readonly parentId: string;
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
  readonly failed: boolean;
}

export interface Collector extends AsyncDisposable {
  readonly httpEndpoint: string;
  readonly grpcEndpoint: string;
  readonly spans: readonly SeenSpan[];
  /** Everything that came, as text: for what must not be in it. */
  readonly raw: () => string;
}

export async function openCollector(): Promise<Collector> {
  const spans: SeenSpan[] = [];
  const raw: string[] = [];
  const take = (bytes: Buffer): void => {
    raw.push(bytes.toString("latin1"));
    spans.push(...readRequest(bytes));
  };

  const http = createServer((request, response) => {
    readBody(request).then(
      (body) => {
        if (request.url !== "/v1/traces") return response.writeHead(404).end();
        if (request.headers["content-type"]?.startsWith("application/json") === true) {
          raw.push(body.toString("utf8"));
          spans.push(...readJson(JSON.parse(body.toString("utf8")) as JsonRequest));
        } else take(body);
        return response.writeHead(200, { "content-type": request.headers["content-type"] ?? "" }).end();
      },
      () => response.destroy(),
    );
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const { port } = http.address() as AddressInfo;

  const grpc = new Server();
  const same = (bytes: Buffer): Buffer => bytes;
  grpc.addService(
    {
      export: {
        path: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        requestStream: false,
        responseStream: false,
        requestSerialize: same,
        requestDeserialize: same,
        responseSerialize: same,
        responseDeserialize: same,
      },
    },
    {
      export(call: { readonly request: Buffer }, answer: (error: null, reply: Buffer) => void) {
        take(call.request);
        answer(null, Buffer.alloc(0));
      },
    },
  );
  const grpcPort = await new Promise<number>((resolve, reject) => {
    grpc.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });

  return {
    httpEndpoint: `http://127.0.0.1:${port}`,
    grpcEndpoint: `http://127.0.0.1:${grpcPort}`,
    spans,
    raw: () => raw.join("\n"),
    async [Symbol.asyncDispose]() {
      grpc.forceShutdown();
      http.closeAllConnections();
      http.close();
      await once(http, "close");
    },
  };
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

interface JsonRequest {
  readonly resourceSpans?: readonly {
    readonly resource?: { readonly attributes?: readonly JsonPair[] };
    readonly scopeSpans?: readonly { readonly spans?: readonly JsonSpan[] }[];
  }[];
}

interface JsonPair {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface JsonSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string | number;
  readonly endTimeUnixNano: string | number;
  readonly attributes?: readonly JsonPair[];
  readonly status?: { readonly code?: number };
}

function readJson({ resourceSpans = [] }: JsonRequest): SeenSpan[] {
  const facts = (pairs: readonly JsonPair[] = []): SeenSpan["attributes"] =>
    Object.fromEntries(pairs.map(({ key, value }) => [key, Object.values(value)[0] as string | number | boolean]));
  return resourceSpans.flatMap(({ resource, scopeSpans = [] }) =>
    scopeSpans.flatMap(({ spans = [] }) =>
      spans.map((span) => ({
        service: `${facts(resource?.attributes)["service.name"]}`,
        instance: `${facts(resource?.attributes)["service.instance.id"] ?? ""}`,
        traceId: span.traceId,
        spanId: span.spanId,
        parentId: span.parentSpanId ?? "",
        name: span.name,
        startMs: Number(span.startTimeUnixNano) / 1e6,
        endMs: Number(span.endTimeUnixNano) / 1e6,
        attributes: facts(span.attributes),
        failed: span.status?.code === 2,
      })),
    ),
  );
}

type Field = { readonly number: number; readonly bytes: Buffer; readonly value: number };

/** The fields of one message; 64-bit ones as numbers. */
function fieldsOf(bytes: Buffer): Field[] {
  const reader = new WireReader(bytes, 0, bytes.length);
  const fields: Field[] = [];
  while (reader.at < reader.end) {
    const key = reader.varint();
    const [number, type] = [key >>> 3, key & 7];
    if (type === 2) {
      const from = reader.block();
      fields.push({ number, bytes: bytes.subarray(from, reader.at), value: 0 });
    } else if (type === 0) fields.push({ number, bytes: Buffer.alloc(0), value: reader.varint() });
    else {
      const from = reader.at;
      reader.skip(type);
      const content = bytes.subarray(from, reader.at);
      fields.push({
        number,
        bytes: content,
        value: content.length === 8 ? Number(content.readBigUInt64LE()) : content.readUInt32LE(),
      });
    }
  }
  return fields;
}

function readRequest(bytes: Buffer): SeenSpan[] {
  return fieldsOf(bytes)
    .filter(({ number }) => number === 1)
    .flatMap((resourceSpans) => {
      const fields = fieldsOf(resourceSpans.bytes);
      const resource = fields.find(({ number }) => number === 1);
      const facts = readFacts(resource === undefined ? [] : fieldsOf(resource.bytes), 1);
      const from = { service: `${facts["service.name"]}`, instance: `${facts["service.instance.id"] ?? ""}` };
      return fields
        .filter(({ number }) => number === 2)
        .flatMap((scope) => fieldsOf(scope.bytes).filter(({ number }) => number === 2))
        .map((span) => ({ ...from, ...readSpan(fieldsOf(span.bytes)) }));
    });
}

function readSpan(fields: readonly Field[]): Omit<SeenSpan, "service" | "instance"> {
  const bytesOf = (number: number): Buffer => fields.find((field) => field.number === number)?.bytes ?? Buffer.alloc(0);
  const valueOf = (number: number): number => fields.find((field) => field.number === number)?.value ?? 0;
  const status = fieldsOf(bytesOf(15)).find(({ number }) => number === 3)?.value ?? 0;
  return {
    traceId: bytesOf(1).toString("hex"),
    spanId: bytesOf(2).toString("hex"),
    parentId: bytesOf(4).toString("hex"),
    name: bytesOf(5).toString("utf8"),
    startMs: valueOf(7) / 1e6,
    endMs: valueOf(8) / 1e6,
    attributes: readFacts(fields, 9),
    failed: status === 2,
  };
}

function readFacts(fields: readonly Field[], at: number): SeenSpan["attributes"] {
  return Object.fromEntries(
    fields
      .filter(({ number }) => number === at)
      .map(({ bytes }) => {
        const pair = fieldsOf(bytes);
        const key = pair.find(({ number }) => number === 1)?.bytes.toString("utf8") ?? "";
        const [value] = fieldsOf(pair.find(({ number }) => number === 2)?.bytes ?? Buffer.alloc(0));
        if (value === undefined) return [key, ""];
        if (value.number === 1) return [key, value.bytes.toString("utf8")];
        if (value.number === 4) return [key, value.bytes.readDoubleLE()];
        return [key, value.value];
      }),
  );
}
