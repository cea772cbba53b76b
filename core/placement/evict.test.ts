import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createLru } from "../lru.ts";
import { chooseVictims, type EvictionCandidate, type EvictionRequest } from "./evict.ts";

const nowMs = 1_000;

function copy(key: string, sizeBytes: number, ageMs: number, pinned = false): EvictionCandidate<string> {
  return { key, sizeBytes, lastUsedMs: nowMs - ageMs, pinned };
}

function choose(
  candidates: Iterable<EvictionCandidate<string>>,
  change: Partial<EvictionRequest<string>> = {},
): string[] | string {
  const chosen = chooseVictims({
    neededBytes: 10,
    freeBytes: 0,
    candidates,
    nowMs,
    minAgeMs: 100,
    waitingUser: false,
    ...change,
  });
  return chosen.kind === "ok" ? chosen.victims.map(({ key }) => key) : chosen.why;
}

test("table of choices", () => {
  assert.deepEqual(choose([copy("a", 10, 500), copy("b", 10, 400)]), ["a"], "the least recently used goes");
  assert.deepEqual(choose([copy("a", 10, 500)], { freeBytes: 10 }), [], "nobody goes when there is room");
  assert.deepEqual(choose([copy("a", 10, 500, true), copy("b", 10, 400)]), ["b"], "a pinned copy stays");
  assert.deepEqual(choose([copy("a", 4, 500), copy("b", 6, 400)]), ["a", "b"]);
  assert.deepEqual(choose([copy("a", 1, 500), copy("b", 10, 400)]), ["b"], "the big one makes the small one unnecessary");
  assert.deepEqual(
    choose([copy("a", 5, 500), copy("b", 4, 400), copy("c", 5, 300)]),
    ["a", "c"],
    "the more recently used is spared",
  );
  assert.equal(choose([copy("a", 10, 99)]), "too-young");
  assert.deepEqual(choose([copy("a", 10, 100)]), ["a"], "at the age it may go");
  assert.deepEqual(choose([copy("a", 10, 1)], { waitingUser: true }), ["a"], "for a user the young go too");
  assert.equal(choose([copy("a", 10, 1, true)], { waitingUser: true }), "not-enough");
  assert.equal(choose([copy("a", 9, 500)]), "not-enough");
  assert.equal(choose([]), "not-enough");
});

test("what is used much more than the newcomer stays, whoever waits", () => {
  const hot = (key: string, requestsPerSecond: number): EvictionCandidate<string> => ({ ...copy(key, 10, 1), requestsPerSecond });
  const user = { waitingUser: true };
  assert.equal(choose([hot("a", 5)], user), "too-hot");
  assert.deepEqual(choose([hot("a", 5), hot("b", 1)], user), ["b"], "once a second is not hot");
  assert.deepEqual(choose([hot("a", 5)], { ...user, requestsPerSecond: 3 }), ["a"], "asked for more than half as often");
  assert.equal(choose([hot("a", 5)], { ...user, requestsPerSecond: 2 }), "too-hot");
  assert.equal(choose([{ ...hot("a", 5), sizeBytes: 9 }], user), "not-enough", "its room would not be enough either");
  assert.deepEqual(choose([hot("a", 5)], { ...user, requestsPerSecond: Number.POSITIVE_INFINITY }), ["a"]);
});

test("no-room says the figures", () => {
  const candidates = [copy("a", 3, 500), copy("b", 2, 400, true), copy("c", 4, 5)];
  const refused = chooseVictims({ neededBytes: 10, freeBytes: 1, candidates, nowMs, minAgeMs: 100, waitingUser: false });
  assert.deepEqual(refused, {
    kind: "no-room",
    why: "not-enough",
    reason:
      "10 bytes are needed, 1 are free and 3 can be freed: 2 bytes are pinned, 0 are used much more than it, 4 were used in the last 100 ms",
  });
});

test("no more of a lazy LRU is walked than needed", () => {
  const lru = createLru<string>();
  for (let at = 0; at < 1_000; at++) lru.set(`m${at}`, { lastUsedMs: at % 500, sizeBytes: 5 });
  let walked = 0;
  function* candidates(): Generator<EvictionCandidate<string>> {
    for (const entry of lru.fromOldest()) {
      walked++;
      yield { ...entry, pinned: false };
    }
  }
  assert.deepEqual(choose(candidates()), ["m0", "m500"]);
  assert.equal(walked, 2);
});

test("victims make room, none of them can be left out, none was protected, and no-room is only said when it is so", () => {
  const candidate = fc.record({ sizeBytes: fc.nat(20), ageMs: fc.nat(200), pinned: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(candidate, { maxLength: 12 }),
      fc.nat(60),
      fc.nat(20),
      fc.boolean(),
      (raw, neededBytes, freeBytes, waitingUser) => {
        const candidates = raw
          .toSorted((a, b) => b.ageMs - a.ageMs)
          .map((one, at) => copy(`c${at}`, one.sizeBytes, one.ageMs, one.pinned));
        const allowed = candidates.filter((one) => !one.pinned && (waitingUser || nowMs - one.lastUsedMs >= 100));
        const allowedBytes = allowed.reduce((sum, one) => sum + one.sizeBytes, 0);
        const chosen = chooseVictims({ neededBytes, freeBytes, candidates, nowMs, minAgeMs: 100, waitingUser });
        assert.equal(chosen.kind === "ok", freeBytes + allowedBytes >= neededBytes);
        if (chosen.kind === "no-room") {
          const unpinned = candidates.filter((one) => !one.pinned).reduce((sum, one) => sum + one.sizeBytes, 0);
          assert.equal(chosen.why === "too-young", freeBytes + unpinned >= neededBytes);
          return;
        }
        assert.equal(
          chosen.freedBytes,
          chosen.victims.reduce((sum, one) => sum + one.sizeBytes, 0),
        );
        assert.ok(freeBytes + chosen.freedBytes >= neededBytes);
        for (const victim of chosen.victims) {
          assert.ok(allowed.includes(victim));
          assert.ok(freeBytes + chosen.freedBytes - victim.sizeBytes < neededBytes, "each is needed");
        }
        // None is taken beyond the first ones that are enough.
        let reachedBytes = freeBytes;
        const prefix = allowed.filter((one) => {
          const take = reachedBytes < neededBytes;
          reachedBytes += one.sizeBytes;
          return take;
        });
        assert.ok(chosen.victims.every((victim) => prefix.includes(victim)));
      },
    ),
    { numRuns: 500 },
  );
});
