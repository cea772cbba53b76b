// Owns the wire form of the one hot message pair: the request headers that Envoy sends for each miss and the answer.
// Written by hand because it is on every miss; a property test holds it to the generated types. Values are read as
// Latin-1, since HTTP headers are bytes.
// Spec: envoy/service/ext_proc/v3/external_processor.proto

import type { ErrorCode } from "#core/errors.ts";
import { WireReader } from "#platform/wire.ts";

/** What the gateway reads of a ProcessingRequest. */
export type ProcessingEvent =
  /** Names are lower case; a header sent twice keeps its first value and is listed in `repeated`. */
  | { readonly kind: "request-headers"; readonly headers: ReadonlyMap<string, string>; readonly repeated: readonly string[] }
  | { readonly kind: "other" };

export type ProcessingAnswer =
  /** Go on, with these request headers set, and find the route anew. */
  | { readonly kind: "continue"; readonly setHeaders: readonly (readonly [string, string])[] }
  | {
      readonly kind: "immediate";
      readonly httpStatus: number;
      readonly grpcStatus: number;
      readonly headers: readonly (readonly [string, string])[];
      readonly body: string;
      /** Of an error; not sent. */
      readonly code?: ErrorCode;
      /** For Envoy's access log. */
      readonly details: string;
    };

/** Throws RangeError on what is no ProcessingRequest. */
export function decodeProcessing(bytes: Buffer): ProcessingEvent {
  const headers = new Map<string, string>();
  const repeated: string[] = [];
  const message = new WireReader(bytes, 0, bytes.length);
  let seen = false;
  while (message.at < message.end) {
    const key = message.varint();
    // request_headers = 2: HttpHeaders
    if (key !== 18) {
      message.skip(key & 7);
      continue;
    }
    seen = true;
    const from = message.block();
    readHttpHeaders(new WireReader(bytes, from, message.at), headers, repeated);
  }
  return seen ? { kind: "request-headers", headers, repeated } : { kind: "other" };
}

function readHttpHeaders(http: WireReader, headers: Map<string, string>, repeated: string[]): void {
  while (http.at < http.end) {
    const key = http.varint();
    // headers = 1: HeaderMap
    if (key !== 10) {
      http.skip(key & 7);
      continue;
    }
    const from = http.block();
    const map = new WireReader(http.bytes, from, http.at);
    while (map.at < map.end) {
      const inner = map.varint();
      // headers = 1: HeaderValue
      if (inner !== 10) {
        map.skip(inner & 7);
        continue;
      }
      const start = map.block();
      readHeader(new WireReader(map.bytes, start, map.at), headers, repeated);
    }
  }
}

function readHeader(header: WireReader, headers: Map<string, string>, repeated: string[]): void {
  let name = "";
  let value = "";
  while (header.at < header.end) {
    const key = header.varint();
    if ((key & 7) !== 2) {
      header.skip(key & 7);
      continue;
    }
    const from = header.block();
    const text = header.bytes.toString("latin1", from, header.at);
    const field = key >>> 3;
    if (field === 1) name = text.toLowerCase();
    // value = 2, raw_value = 3: Envoy fills one of them.
    else if ((field === 2 || field === 3) && text !== "") value = text;
  }
  if (headers.has(name)) repeated.push(name);
  else headers.set(name, value);
}

type Part = Buffer | number;

function size(parts: readonly Part[]): number {
  return parts.reduce<number>((sum, part) => sum + (typeof part === "number" ? 1 : part.length), 0);
}

function join(parts: readonly Part[]): Buffer {
  return Buffer.concat(
    parts.map((part) => (typeof part === "number" ? Buffer.of(part) : part)),
    size(parts),
  );
}

function varint(value: number): Buffer {
  const out: number[] = [];
  let rest = value;
  while (rest > 127) {
    out.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  out.push(rest);
  return Buffer.from(out);
}

function field(number: number, content: Buffer): Buffer {
  return Buffer.concat([varint(number * 8 + 2), varint(content.length), content]);
}

function scalar(number: number, value: number): Buffer {
  return value === 0 ? Buffer.alloc(0) : Buffer.concat([varint(number * 8), varint(value)]);
}

/** HeaderMutation with set_headers = 1: HeaderValueOption{header = 1, append_action = 3 OVERWRITE_IF_EXISTS_OR_ADD}. */
function headerMutation(headers: readonly (readonly [string, string])[]): Buffer {
  return join(
    headers.map(([name, value]) => {
      const header = Buffer.concat([field(1, Buffer.from(name, "latin1")), field(3, Buffer.from(value, "latin1"))]);
      return field(1, Buffer.concat([field(1, header), scalar(3, 2)]));
    }),
  );
}

/** Encodes a ProcessingResponse. */
export function encodeProcessing(answer: ProcessingAnswer): Buffer {
  if (answer.kind === "continue") {
    // CommonResponse: status = 1 CONTINUE (0), header_mutation = 2, clear_route_cache = 5
    const common = Buffer.concat([field(2, headerMutation(answer.setHeaders)), scalar(5, 1)]);
    // ProcessingResponse.request_headers = 1: HeadersResponse{response = 1}
    return field(1, field(1, common));
  }
  // ImmediateResponse: status = 1 {code = 1}, headers = 2, body = 3, grpc_status = 4 {status = 1}, details = 5
  const immediate = Buffer.concat([
    field(1, scalar(1, answer.httpStatus)),
    field(2, headerMutation(answer.headers)),
    field(3, Buffer.from(answer.body, "utf8")),
    field(4, scalar(1, answer.grpcStatus)),
    field(5, Buffer.from(answer.details, "latin1")),
  ]);
  // ProcessingResponse.immediate_response = 7
  return field(7, immediate);
}
