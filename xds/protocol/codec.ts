// Owns the wire form of delta discovery: DeltaDiscoveryRequest into what a session takes, and what a session sends into
// DeltaDiscoveryResponse. Resources are bytes already, so the response is written by hand: one pass to measure, one to
// write, no message objects. codec.test.ts holds it to the generated codec.
import { fromBinary } from "@bufbuild/protobuf";
import { DeltaDiscoveryRequestSchema } from "#proto/gen/envoy/service/discovery/v3/discovery_pb.ts";
import type { DeltaRequest, DeltaResponse } from "./types.ts";

/** A request and, in the first one of a stream, the id of the Envoy that sent it. */
export interface WireRequest extends DeltaRequest {
  readonly nodeId: string;
}

/** Throws when the bytes are no DeltaDiscoveryRequest. */
export function decodeDeltaRequest(bytes: Uint8Array): WireRequest {
  const message = fromBinary(DeltaDiscoveryRequestSchema, bytes, { readUnknownFields: false });
  return {
    nodeId: message.node?.id ?? "",
    typeUrl: message.typeUrl,
    responseNonce: message.responseNonce,
    subscribe: message.resourceNamesSubscribe,
    unsubscribe: message.resourceNamesUnsubscribe,
    initialResourceVersions: message.initialResourceVersions,
    ...(message.errorDetail === undefined ? {} : { errorDetail: message.errorDetail.message }),
  };
}

// Field tags, all length-delimited: DeltaDiscoveryResponse { resources 2, type_url 4, nonce 5, removed_resources 6 },
// Resource { version 1, resource 2, name 3 }, Any { type_url 1, value 2 }.
const tag = {
  resources: 0x12,
  typeUrl: 0x22,
  nonce: 0x2a,
  removed: 0x32,
  version: 0x0a,
  resource: 0x12,
  name: 0x1a,
  anyType: 0x0a,
  anyValue: 0x12,
};

export function encodeDeltaResponse(response: DeltaResponse): Buffer {
  const { resources, removed } = response;
  const typeUrl = Buffer.from(response.typeUrl);
  const typeSize = fieldSize(typeUrl.length);
  // Sizes of a resource's parts, three a resource: its name and version in UTF-8, and all of it.
  const sizes = new Uint32Array(resources.length * 3 + removed.length);
  let total = typeSize + fieldSize(Buffer.byteLength(response.nonce));
  let at = 0;
  for (const { name, version, bytes } of resources) {
    const nameSize = Buffer.byteLength(name);
    const versionSize = Buffer.byteLength(version);
    const size = fieldSize(nameSize) + fieldSize(versionSize) + fieldSize(typeSize + fieldSize(bytes.length));
    sizes[at++] = nameSize;
    sizes[at++] = versionSize;
    sizes[at++] = size;
    total += fieldSize(size);
  }
  for (const name of removed) {
    const size = Buffer.byteLength(name);
    sizes[at++] = size;
    total += fieldSize(size);
  }

  const out = Buffer.allocUnsafe(total);
  let pos = 0;
  at = 0;
  const text = (fieldTag: number, value: string, size: number): void => {
    pos = writeHead(out, pos, fieldTag, size);
    out.write(value, pos, size, "utf8");
    pos += size;
  };
  const raw = (fieldTag: number, value: Uint8Array): void => {
    pos = writeHead(out, pos, fieldTag, value.length);
    out.set(value, pos);
    pos += value.length;
  };
  for (const { name, version, bytes } of resources) {
    const nameSize = sizes[at++] ?? 0;
    const versionSize = sizes[at++] ?? 0;
    pos = writeHead(out, pos, tag.resources, sizes[at++] ?? 0);
    text(tag.version, version, versionSize);
    pos = writeHead(out, pos, tag.resource, typeSize + fieldSize(bytes.length));
    raw(tag.anyType, typeUrl);
    raw(tag.anyValue, bytes);
    text(tag.name, name, nameSize);
  }
  raw(tag.typeUrl, typeUrl);
  text(tag.nonce, response.nonce, Buffer.byteLength(response.nonce));
  for (const name of removed) text(tag.removed, name, sizes[at++] ?? 0);
  return out;
}

/** A field of so many bytes with its one-byte tag and its length. */
function fieldSize(size: number): number {
  return 1 + (size < 0x80 ? 1 : size < 0x4000 ? 2 : size < 0x200000 ? 3 : size < 0x10000000 ? 4 : 5) + size;
}

function writeHead(out: Buffer, start: number, fieldTag: number, size: number): number {
  let pos = start;
  out[pos++] = fieldTag;
  let rest = size;
  while (rest > 0x7f) {
    out[pos++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  out[pos++] = rest;
  return pos;
}
