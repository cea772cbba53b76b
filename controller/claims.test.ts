// Which claims a runtime's pods mount.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createManualClock } from "#platform/clock.ts";
import { createClaims } from "./claims.ts";
import { type KubeObject, parseObject } from "./engine/objects.ts";

interface Case {
  readonly says: string;
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly named?: readonly string[];
  readonly mounted?: readonly string[];
  readonly there: readonly string[];
  readonly allowAny?: boolean;
  readonly expected: readonly string[];
}

const cases: readonly Case[] = [
  {
    says: "those of the storage settings, in a steady order",
    settings: { b: { type: "pvc", name: "two" }, a: { type: "pvc", name: "one" }, s3: { type: "s3", bucket: "b" } },
    there: ["one", "two"],
    expected: ["one", "two"],
  },
  { says: "none that only a model names", named: ["mine"], there: ["mine"], expected: [] },
  { says: "one that a model names, when any may be", named: ["mine"], there: ["mine"], allowAny: true, expected: ["mine"] },
  {
    says: "one that is not there is left out, and hinders no other",
    settings: { a: { type: "pvc", name: "one" }, b: { type: "pvc", name: "lost" } },
    there: ["one"],
    expected: ["one"],
  },
  { says: "what is mounted stays, though nobody names it any more", mounted: ["old"], there: ["old"], expected: ["old"] },
  { says: "what is mounted goes when it is gone", mounted: ["old"], there: [], expected: [] },
  {
    says: "an entry that cannot be read is no other's trouble",
    settings: { a: { type: "pvc", name: "../etc" }, b: "no JSON", c: { type: "pvc", name: "one" } },
    there: ["one"],
    expected: ["one"],
  },
];

describe("the claims of a runtime", () => {
  for (const { says, settings, named = [], mounted = [], there, allowAny = false, expected } of cases) {
    test(says, async () => {
      const claims = createClaims({
        client: {
          async get(type, namespace, name): Promise<KubeObject | undefined> {
            assert.equal(namespace, "shop");
            if (type.kind === "Secret") {
              assert.equal(name, "storage-config");
              const data = Object.entries(settings ?? {}).map(([key, entry]) => {
                const text = typeof entry === "string" ? entry : JSON.stringify(entry);
                return [key, Buffer.from(text).toString("base64")];
              });
              return settings === undefined ? undefined : parseObject({ metadata: { name }, data: Object.fromEntries(data) });
            }
            return there.includes(name) ? parseObject({ metadata: { name } }) : undefined;
          },
        },
        namespace: "shop",
        secret: "storage-config",
        allowAny,
        uses: { claims: () => new Set(named) },
        clock: createManualClock(),
      });
      assert.deepEqual(await claims.of("onnx", mounted), expected);
    });
  }

  test("one that comes is seen after a while, and the API server is not asked each time", async () => {
    const clock = createManualClock();
    let asked = 0;
    let isThere = false;
    const claims = createClaims({
      client: {
        async get(type, _namespace, name) {
          if (type.kind === "Secret") return undefined;
          asked += 1;
          return isThere ? parseObject({ metadata: { name } }) : undefined;
        },
      },
      namespace: "shop",
      secret: "storage-config",
      allowAny: true,
      uses: { claims: () => new Set(["data"]) },
      clock,
    });
    assert.deepEqual(await claims.of("onnx", []), []);
    isThere = true;
    assert.deepEqual(await claims.of("onnx", []), []);
    assert.equal(asked, 1);
    clock.advance(10_000);
    assert.deepEqual(await claims.of("onnx", []), ["data"]);
  });
});
