import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseAdapterOptions } from "./options.ts";

const flags = (over: Readonly<Record<string, string | undefined>>): string[] =>
  Object.entries({
    "pod-id": "pod-1",
    runtime: "onnx",
    "admin-socket": "/run/admin.sock",
    "rest-address": "127.0.0.1:1",
    "grpc-address": "127.0.0.1:2",
    "capacity-bytes": "1Gi",
    registry: "file",
    "storage-root": "/",
    ...over,
  }).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]));

describe("the adapter's options", () => {
  test("a runtime named after a driver chooses it, with the formats it knows", () => {
    const options = parseAdapterOptions(flags({}));
    assert.deepEqual([options.runtime, options.driver, options.formats], ["onnx", "onnx", ["onnx"]]);
  });

  test("a runtime of any name says its driver, and may say its formats", () => {
    const options = parseAdapterOptions(flags({ runtime: "onnx-large.1", driver: "onnx", formats: "onnx:1,ort" }));
    assert.deepEqual([options.runtime, options.driver, options.formats], ["onnx-large.1", "onnx", ["onnx:1", "ort"]]);
  });

  test("a model server without an address for REST is one that has gRPC alone", () => {
    const own = { driver: "modelmesh", "rest-address": undefined };
    const options = parseAdapterOptions(flags(own));
    assert.deepEqual([options.restAddress, options.restByGrpc], ["127.0.0.1:2", true]);
    assert.equal(parseAdapterOptions(flags({ driver: "modelmesh" })).restByGrpc, false);
  });

  const refused: readonly (readonly [string, Readonly<Record<string, string | undefined>>, RegExp])[] = [
    ["no address for REST where the model server has it", { "rest-address": undefined }, /--rest-address is needed: onnx/],
    ["a runtime that is no driver's name alone", { runtime: "mine" }, /--driver is needed/],
    ["a driver that is none", { driver: "mine" }, /driver must be one of onnx/],
    ["a runtime that is no name", { runtime: "a b" }, /plain name/],
    ["formats with a gap", { formats: "a,,b" }, /must be formats/],
    ["a format with two versions", { formats: "a:1:2" }, /must be formats/],
  ];
  for (const [what, over, reason] of refused) {
    test(`refuses ${what}`, () => assert.throws(() => parseAdapterOptions(flags(over)), reason));
  }
});
