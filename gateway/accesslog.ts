// Owns the reading of Envoy's access logs: of each entry the few fields that tell who was asked and how long it took. The
// generated types would build some thirty objects for each.
// Spec: envoy/service/accesslog/v3/als.proto, envoy/data/accesslog/v3/accesslog.proto; a property test holds it to them.
import { WireReader } from "#platform/wire.ts";

export interface LogEntry {
  readonly path: string;
  /** Of those that Envoy was told to log. */
  readonly requestHeaders: ReadonlyMap<string, string>;
  readonly responseHeaders: ReadonlyMap<string, string>;
  /** 0 when there was no answer. */
  readonly status: number;
  /** From the first byte of the request to the last one of the answer; undefined when it was not sent whole. */
  readonly tookMs: number | undefined;
  /** Of the request's body, as it came. */
  readonly requestBytes: number;
  /** Some pod was asked. */
  readonly reachedPod: boolean;
}

const none: ReadonlyMap<string, string> = new Map();

// Tags: field number * 8 + wire type (2: length-delimited).
const inMessage = { httpLogs: 18 };
const inLogs = { entry: 10 };
const inEntry = { common: 10, request: 26, response: 34 };
const inCommon = { lastByte: 98, upstream: 106 };
const inRequest = { path: 42, bodyBytes: 96, headers: 106 };
const inResponse = { status: 10, headers: 34 };

/** Reads a StreamAccessLogsMessage; throws RangeError on what is none. */
export function decodeAccessLogs(bytes: Buffer): readonly LogEntry[] {
  const entries: LogEntry[] = [];
  const message = new WireReader(bytes, 0, bytes.length);
  while (!message.done) {
    const tag = message.varint();
    if (tag !== inMessage.httpLogs) {
      message.skip(tag & 7);
      continue;
    }
    const logs = message.message();
    while (!logs.done) {
      const inner = logs.varint();
      if (inner === inLogs.entry) entries.push(readEntry(logs.message()));
      else logs.skip(inner & 7);
    }
  }
  return entries;
}

function readEntry(entry: WireReader): LogEntry {
  const found = {
    path: "",
    requestHeaders: none,
    responseHeaders: none,
    status: 0,
    tookMs: undefined as number | undefined,
    requestBytes: 0,
    reachedPod: false,
  };
  while (!entry.done) {
    const tag = entry.varint();
    if (tag === inEntry.common) readCommon(entry.message(), found);
    else if (tag === inEntry.request) readRequest(entry.message(), found);
    else if (tag === inEntry.response) readResponse(entry.message(), found);
    else entry.skip(tag & 7);
  }
  return found;
}

type Found = { -readonly [K in keyof LogEntry]: LogEntry[K] };

function readCommon(common: WireReader, found: Found): void {
  while (!common.done) {
    const tag = common.varint();
    if (tag === inCommon.lastByte) found.tookMs = readDurationMs(common.message());
    else {
      if (tag === inCommon.upstream) found.reachedPod = true;
      common.skip(tag & 7);
    }
  }
}

function readRequest(request: WireReader, found: Found): void {
  while (!request.done) {
    const tag = request.varint();
    if (tag === inRequest.path) found.path = request.latin1();
    else if (tag === inRequest.bodyBytes) found.requestBytes = request.varint();
    else if (tag === inRequest.headers) found.requestHeaders = withPair(found.requestHeaders, request.message());
    else request.skip(tag & 7);
  }
}

function readResponse(response: WireReader, found: Found): void {
  while (!response.done) {
    const tag = response.varint();
    if (tag === inResponse.status) found.status = readWrapped(response.message());
    else if (tag === inResponse.headers) found.responseHeaders = withPair(found.responseHeaders, response.message());
    else response.skip(tag & 7);
  }
}

/** An entry of a map<string, string>. */
function withPair(map: ReadonlyMap<string, string>, pair: WireReader): ReadonlyMap<string, string> {
  let key = "";
  let value = "";
  while (!pair.done) {
    const tag = pair.varint();
    if (tag === 10) key = pair.latin1();
    else if (tag === 18) value = pair.latin1();
    else pair.skip(tag & 7);
  }
  return new Map(map).set(key, value);
}

function readDurationMs(duration: WireReader): number {
  let ms = 0;
  while (!duration.done) {
    const tag = duration.varint();
    if (tag === 8) ms += duration.varint() * 1_000;
    else if (tag === 16) ms += duration.varint() / 1e6;
    else duration.skip(tag & 7);
  }
  return ms;
}

/** google.protobuf.UInt32Value */
function readWrapped(wrapped: WireReader): number {
  let value = 0;
  while (!wrapped.done) {
    const tag = wrapped.varint();
    if (tag === 8) value = wrapped.varint();
    else wrapped.skip(tag & 7);
  }
  return value;
}
