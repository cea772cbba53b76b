import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { fnv1a32, mix32, rendezvousOrder, rendezvousPick, rendezvousWeight } from "./rendezvous.ts";

const nodes = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 12 }), { maxLength: 12 });

/** Any UTF-16 code units, lone surrogates too. */
const anyText = fc.array(fc.nat(0xffff), { maxLength: 30 }).map((units) => String.fromCharCode(...units));

test("the hashes are the published ones", () => {
  assert.deepEqual(
    ["", "a", "foobar"].map((text) => fnv1a32(text)),
    [0x811c9dc5, 0xe40c292c, 0xbf9cf968],
  );
  assert.deepEqual([0, 1, 0xffffffff].map(mix32), [0, 0x514e28b7, 0x81f16f39]);
});

test("the order is a permutation, does not depend on the order given, and begins with the pick", () => {
  fc.assert(
    fc.property(fc.string(), nodes, (key, names) => {
      const order = rendezvousOrder(key, names);
      assert.deepEqual(order.toSorted(), names.toSorted());
      assert.deepEqual(rendezvousOrder(key, names.toReversed()), order);
      assert.equal(rendezvousPick(key, names), order[0]);
      assert.equal(rendezvousPick(key, new Set(names.toReversed())), order[0]);
    }),
  );
});

test("taking a node away leaves the order of the others", () => {
  fc.assert(
    fc.property(fc.string(), nodes, fc.nat(), (key, names, which) => {
      const gone = names[which % names.length];
      assert.deepEqual(
        rendezvousOrder(
          key,
          names.filter((name) => name !== gone),
        ),
        rendezvousOrder(key, names).filter((name) => name !== gone),
      );
    }),
  );
});

test("keys spread evenly over nodes with similar names, on the first place and on the second", () => {
  const names = Array.from({ length: 8 }, (_, at) => `pod-${at}`);
  const keys = 40_000;
  for (const place of [0, 1]) {
    const counts = new Map<string | undefined, number>();
    for (let at = 0; at < keys; at++) {
      const name = rendezvousOrder(`tenant-${at}.iris`, names)[place];
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    const expected = keys / names.length;
    const chiSquare = names.reduce((sum, name) => sum + ((counts.get(name) ?? 0) - expected) ** 2 / expected, 0);
    // The 99.9 % point of chi-square with 7 degrees of freedom is 24.3; the keys are fixed, so this cannot flicker.
    assert.ok(chiSquare < 24.3, `chi-square ${chiSquare}`);
  }
});

test("weights are whole and in range for any text", () => {
  fc.assert(
    fc.property(anyText, anyText, (key, node) => {
      const weight = rendezvousWeight(key, node);
      assert.ok(Number.isInteger(weight) && weight >= 0 && weight < 2 ** 32);
    }),
  );
});
