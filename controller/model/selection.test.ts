import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseObject } from "../engine/objects.ts";
import { parseRuntime, type Runtime } from "../runtime/runtime.ts";
import { selectRuntime, type Wish } from "./selection.ts";

interface Given {
  readonly name: string;
  readonly cluster?: boolean;
  readonly created?: string;
  readonly spec?: Readonly<Record<string, unknown>>;
}

function runtime({ name, cluster = false, created = "2026-01-01T00:00:00Z", spec = {} }: Given): Runtime {
  const object = parseObject({
    metadata: { name, uid: name, creationTimestamp: created, ...(cluster ? {} : { namespace: "shop" }) },
    spec: {
      multiModel: true,
      supportedModelFormats: [{ name: "onnx", version: "1", autoSelect: true }],
      protocolVersions: ["grpc-v2"],
      builtInAdapter: { serverType: "onnx" },
      containers: [{ name: "onnx" }],
      ...spec,
    },
  });
  assert.ok(object);
  return parseRuntime(object);
}

const onnx: Wish = { format: "onnx", formatVersion: undefined, protocol: undefined, runtime: undefined };
const format = (more: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> => ({
  supportedModelFormats: [{ name: "onnx", version: "1", autoSelect: true, ...more }],
});

const cases: readonly {
  readonly says: string;
  readonly runtimes: readonly Given[];
  readonly wish?: Partial<Wish>;
  /** A runtime, or the reason for none. */
  readonly chosen: string;
  readonly why?: RegExp;
}[] = [
  { says: "the only one", runtimes: [{ name: "a" }], chosen: "a", why: /this namespace's runtime a serves onnx/ },
  {
    says: "the namespace's own before the cluster's, whatever the priority",
    runtimes: [{ name: "a", cluster: true, spec: format({ priority: 9 }) }, { name: "b" }],
    chosen: "b",
  },
  {
    says: "a runtime of the namespace hides the cluster's of the same name",
    runtimes: [
      { name: "a", cluster: true },
      { name: "a", spec: { disabled: true } },
    ],
    chosen: "NoSupportingRuntime",
    why: /a is disabled/,
  },
  {
    says: "the higher priority",
    runtimes: [{ name: "a" }, { name: "b", spec: format({ priority: 2 }) }],
    chosen: "b",
    why: /preferred to 1 other$/,
  },
  {
    says: "the newest of the same priority",
    runtimes: [{ name: "a" }, { name: "b", created: "2026-02-01T00:00:00Z" }],
    chosen: "b",
  },
  { says: "by name when nothing else tells them apart", runtimes: [{ name: "b" }, { name: "a" }], chosen: "a" },
  { says: "not one that is disabled", runtimes: [{ name: "a", spec: { disabled: true } }], chosen: "NoSupportingRuntime" },
  {
    says: "not one for single models",
    runtimes: [{ name: "a", spec: { multiModel: false } }],
    chosen: "NoSupportingRuntime",
    why: /not for many models/,
  },
  {
    says: "not one that must be named",
    runtimes: [{ name: "a", spec: format({ autoSelect: false }) }],
    chosen: "NoSupportingRuntime",
    why: /only for models that name it/,
  },
  {
    says: "one that must be named, by name",
    runtimes: [{ name: "a", spec: format({ autoSelect: false }) }],
    wish: { runtime: "a" },
    chosen: "a",
  },
  {
    says: "the same version, as text",
    runtimes: [{ name: "a" }],
    wish: { formatVersion: "1.0" },
    chosen: "NoSupportingRuntime",
    why: /does not serve version 1.0 of onnx/,
  },
  {
    says: "any version for a format without one",
    runtimes: [{ name: "a", spec: format({ version: undefined }) }],
    wish: { formatVersion: "7" },
    chosen: "a",
  },
  {
    says: "the protocol",
    runtimes: [{ name: "a" }],
    wish: { protocol: "grpc-v1" },
    chosen: "NoSupportingRuntime",
    why: /does not speak grpc-v1/,
  },
  { says: "REST of a server that speaks V2 over gRPC", runtimes: [{ name: "a" }], wish: { protocol: "v2" }, chosen: "a" },
  {
    says: "any protocol for a runtime that names none",
    runtimes: [{ name: "a", spec: { protocolVersions: [] } }],
    wish: { protocol: "grpc-v1" },
    chosen: "a",
  },
  { says: "a name that is not there", runtimes: [{ name: "a" }], wish: { runtime: "x" }, chosen: "RuntimeNotRecognized" },
  {
    says: "a named one that does not serve the format",
    runtimes: [{ name: "a" }],
    wish: { runtime: "a", format: "sklearn" },
    chosen: "NoSupportingRuntime",
    why: /a does not serve sklearn/,
  },
  {
    says: "one that cannot run says why",
    runtimes: [{ name: "a", spec: { containers: [{ name: "other" }] } }],
    chosen: "NoSupportingRuntime",
    why: /a cannot run: no container is named onnx/,
  },
  { says: "none at all", runtimes: [], chosen: "NoSupportingRuntime", why: /there is no runtime/ },
];

describe("the runtime of a revision is", () => {
  for (const { says, runtimes, wish = {}, chosen, why } of cases) {
    test(says, () => {
      const selection = selectRuntime({ ...onnx, ...wish }, runtimes.map(runtime));
      assert.equal(selection.kind === "selected" ? selection.runtime.name : selection.reason, chosen, selection.why);
      if (why !== undefined) assert.match(selection.why, why);
    });
  }

  test("the same whatever the order in which runtimes come", () => {
    const all = [{ name: "c" }, { name: "a", cluster: true }, { name: "b", created: "2026-03-01T00:00:00Z" }].map(runtime);
    const chosen = new Set(
      [all, all.toReversed()].map((list) => {
        const it = selectRuntime(onnx, list);
        return it.kind === "selected" ? it.runtime.name : it.reason;
      }),
    );
    assert.deepEqual([...chosen], ["b"]);
  });
});
