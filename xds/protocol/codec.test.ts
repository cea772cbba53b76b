import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { DeltaDiscoveryRequestSchema, DeltaDiscoveryResponseSchema } from "#proto/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { decodeDeltaRequest, encodeDeltaResponse } from "./codec.ts";
import type { DeltaResponse } from "./types.ts";

const textArb = fc.string({ unit: "binary", maxLength: 200 });
const bytesArb = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.integer({ min: 16_000, max: 17_000 }).map((size) => new Uint8Array(size)),
);
const plain = { noNullPrototype: true };
const resourceArb = fc.record({ name: textArb, version: textArb, bytes: bytesArb }, plain);
const responseArb = fc.record(
  { typeUrl: textArb, nonce: textArb, resources: fc.array(resourceArb, { maxLength: 20 }), removed: fc.array(textArb) },
  plain,
);

/** Through the generated codec, as any client reads it. */
function read(bytes: Uint8Array): DeltaResponse {
  const message = fromBinary(DeltaDiscoveryResponseSchema, bytes);
  assert.equal(message.$unknown, undefined);
  for (const { resource } of message.resources) assert.equal(resource?.typeUrl, message.typeUrl);
  return {
    typeUrl: message.typeUrl,
    nonce: message.nonce,
    resources: message.resources.map(({ name, version, resource }) => ({
      name,
      version,
      bytes: new Uint8Array(resource?.value ?? []),
    })),
    removed: message.removedResources,
  };
}

test("what is written by hand is read by the generated codec", () => {
  fc.assert(
    fc.property(responseArb, (response) => {
      assert.deepEqual(read(encodeDeltaResponse(response)), response);
    }),
    { numRuns: 500 },
  );
});

test("lengths of three and four bytes", () => {
  const resources = [16_383, 16_384, 2_097_151, 2_097_152].map((size) => ({
    name: "n",
    version: "v",
    bytes: new Uint8Array(size).fill(7),
  }));
  const back = read(encodeDeltaResponse({ typeUrl: "t", nonce: "1", resources, removed: [] }));
  assert.deepEqual(
    back.resources.map(({ name, version, bytes }) => [name, version, bytes.length, bytes.every((byte) => byte === 7)]),
    resources.map(({ bytes }) => ["n", "v", bytes.length, true]),
  );
});

test("a request is read with its node, its verdict and its versions", () => {
  const bytes = toBinary(
    DeltaDiscoveryRequestSchema,
    create(DeltaDiscoveryRequestSchema, {
      node: { id: "envoy-1" },
      typeUrl: "t",
      responseNonce: "7",
      resourceNamesSubscribe: ["a"],
      resourceNamesUnsubscribe: ["b"],
      initialResourceVersions: { c: "1" },
      errorDetail: { code: 3, message: "no" },
    }),
  );
  assert.deepEqual(decodeDeltaRequest(bytes), {
    nodeId: "envoy-1",
    typeUrl: "t",
    responseNonce: "7",
    subscribe: ["a"],
    unsubscribe: ["b"],
    initialResourceVersions: { c: "1" },
    errorDetail: "no",
  });
  assert.equal("errorDetail" in decodeDeltaRequest(new Uint8Array()), false);
});
