import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseAdapterOptions } from "./options.ts";

const flags: Readonly<Record<string, string>> = {
  "--pod-id": "pod-1",
  "--runtime": "onnx",
  "--admin-socket": "/run/admin.sock",
  "--rest-address": "127.0.0.1:8001",
  "--grpc-address": "[::1]:8002",
  "--capacity-bytes": "64Mi",
  "--registry": "/run/registry.db",
  "--storage-root": "/models",
};
const parse = (changes: Readonly<Record<string, string | undefined>> = {}): ReturnType<typeof parseAdapterOptions> =>
  parseAdapterOptions(
    Object.entries({ ...flags, ...changes }).flatMap(([flag, value]) => (value === undefined ? [] : [flag, value])),
  );

describe("the adapter's options", () => {
  test("have defaults", () => {
    const options = parse();
    assert.equal(options.capacityBytes, 64 * 2 ** 20);
    assert.deepEqual([options.linkHost, options.linkPort, options.loadConcurrency, options.minAge], ["127.0.0.1", 0, 2, 10_000]);
    assert.deepEqual(options.labels, {});
    assert.deepEqual(parse({ "--labels": "zone=a,gpu=" }).labels, { zone: "a", gpu: "" });
  });

  const bad: readonly (readonly [string, string | undefined, RegExp])[] = [
    ["--pod-id", undefined, /--pod-id must name the pod/],
    ["--pod-id", "a/b", /--pod-id must be a plain name/],
    ["--runtime", "other", /--runtime must be onnx/],
    ["--rest-address", "8001", /--rest-address must be host:port/],
    ["--capacity-bytes", "much", /--capacity-bytes must be a size/],
    ["--capacity-bytes", "0", /--capacity-bytes/],
    ["--storage-root", "models", /--storage-root must be an absolute path/],
    ["--link-port", "70000", /--link-port must be at most 65535/],
    ["--load-concurrency", "0", /--load-concurrency/],
    ["--labels", "zone", /--labels must be key=value/],
    ["--unknown", "x", /--unknown/],
  ];
  for (const [flag, value, reason] of bad) {
    test(`say what is wrong with ${flag} ${value ?? "left out"}`, () => {
      assert.throws(() => parse({ [flag]: value }), { name: "StartupError", message: reason });
    });
  }
});
