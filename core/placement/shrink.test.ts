import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { PodView } from "./request.ts";
import { chooseShrink } from "./shrink.ts";
import { podView as pod } from "./testing.ts";

test("what stays is spread over nodes, then zones; then the busiest pod gives up its copy", () => {
  const table: [string, readonly PodView[], number, readonly string[]][] = [
    ["nothing to do", [pod("a")], 1, []],
    ["the busiest", [pod("a", { requestsPerSecond: 9 }), pod("b")], 1, ["a"]],
    [
      "one of two on a node",
      [pod("a", { node: "n", requestsPerSecond: 9 }), pod("b", { node: "n" }), pod("c", { node: "m" })],
      2,
      ["a"],
    ],
    [
      "one of two in a zone",
      [pod("a", { zone: "y", requestsPerSecond: 9 }), pod("b", { zone: "z" }), pod("c", { zone: "z" })],
      2,
      ["c"],
    ],
    ["all", [pod("a"), pod("b")], 0, ["b", "a"]],
    ["less than none", [pod("a")], -1, ["a"]],
  ];
  for (const [what, holders, keep, going] of table) assert.deepEqual(chooseShrink(holders, keep), going, what);
});

test("as many go as are too many, each once, whatever the order", () => {
  const pods = fc.uniqueArray(
    fc.record({
      podId: fc.stringMatching(/^[a-z]{1,3}$/),
      node: fc.constantFrom("n", "m", undefined),
      zone: fc.constantFrom("y", "z"),
      requestsPerSecond: fc.nat(3),
    }),
    { maxLength: 8, selector: ({ podId }) => podId },
  );
  fc.assert(
    fc.property(pods, fc.nat(9), (found, keep) => {
      const holders = found.map(({ podId, ...rest }) => pod(podId, rest));
      const going = chooseShrink(holders, keep);
      assert.equal(going.length, Math.max(0, holders.length - keep));
      assert.equal(new Set(going).size, going.length);
      assert.deepEqual(chooseShrink(holders.toReversed(), keep), going);
    }),
  );
});
