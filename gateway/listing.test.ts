import { strict as assert } from "node:assert";
import { test } from "node:test";
import { createManualClock } from "#platform/clock.ts";
import { createListing, type ListingParts } from "./listing.ts";

interface Fixture {
  readonly names: Set<string>;
  readonly denied: Set<string>;
  readonly asked: string[];
}

function open(names: readonly string[], more: Partial<ListingParts> = {}) {
  const fixture: Fixture = { names: new Set(names), denied: new Set(), asked: [] };
  const listing = createListing({
    count: () => fixture.names.size,
    names: () => fixture.names,
    routes: { isRouted: (name) => name.startsWith("warm") },
    mayCall: (principal, name) => {
      fixture.asked.push(`${principal} ${name}`);
      return fixture.names.has(name) && !fixture.denied.has(`${principal} ${name}`);
    },
    isGuarded: true,
    clock: createManualClock(),
    ...more,
  });
  const list = async (principal?: string, which: "all" | "ready" = "all"): Promise<string> => {
    const index = await listing.list(principal, which);
    return index.kind === "ok" ? index.entries.map(({ name }) => name).join(" ") : index.kind;
  };
  return { ...fixture, listing, list };
}

test("a list has the models that the caller may call, in the order of their names", async () => {
  const { list, denied } = open(["warm-b", "cold-a", "warm-a"]);
  denied.add("team warm-b");
  assert.equal(await list("team"), "cold-a warm-a");
  assert.equal(await list("team", "ready"), "warm-a");
  assert.equal(await list("other"), "cold-a warm-a warm-b");
});

test("whether a caller may call a model is decided once, and again when that model or the rules change", async () => {
  const { list, listing, asked, denied, names } = open(["a", "b"]);
  await list("team");
  await list("team");
  assert.deepEqual(asked.splice(0), ["team a", "team b"]);
  denied.add("team a");
  listing.onModel("a");
  assert.equal(await list("team"), "b");
  assert.deepEqual(asked.splice(0), ["team a"]);
  names.add("c");
  listing.onModel("c");
  assert.equal(await list("team"), "b c");
  denied.add("team c");
  listing.onRules();
  assert.equal(await list("team"), "b");
});

test("where nobody has to prove anything nothing is decided", async () => {
  const { list, asked } = open(["a", "b"], { isGuarded: false });
  assert.equal(await list(), "a b");
  assert.deepEqual(asked, []);
});

test("who waits for the same list gets the same one; who asks while it is made sees what has changed by then", async () => {
  const { listing, names } = open(["a"]);
  const [first, second] = [listing.list("team", "all"), listing.list("team", "all")];
  assert.equal(await first, await second);
  names.add("b");
  listing.onModel("b");
  const third = await listing.list("team", "all");
  assert.equal(third.kind === "ok" ? third.entries.length : third.kind, 2);
});

test("more than 50,000 are too many for one answer, more lists than are waited for are refused", async () => {
  const many = Array.from({ length: 50_001 }, (_, at) => `m-${at}`);
  assert.equal(await open(many).list(), "too-many");
  const { list } = open(["a"]);
  const answers = await Promise.all(Array.from({ length: 40 }, (_, at) => list(`team-${at}`)));
  assert.equal(answers.filter((answer) => answer === "a").length, 32);
  assert.equal(answers.filter((answer) => answer === "busy").length, 8);
  const same = await Promise.all(Array.from({ length: 70 }, () => list("team")));
  assert.equal(same.filter((answer) => answer === "busy").length, 6);
  assert.equal(await list("team-39"), "a");
});

test("a long list leaves other work its turns, and the next one waits four times as long as it took", async () => {
  // Each look at the time costs a tenth of a millisecond.
  let nowMs = 0;
  const clock = { monotonicMs: () => (nowMs += 0.1) };
  const many = Array.from({ length: 64 * 1_000 - 20_000 }, (_, at) => `m-${at}`);
  const { list } = open(many, { isGuarded: false, clock });
  let turns = 0;
  let other = setImmediate(function turn() {
    turns += 1;
    other = setImmediate(turn);
  });
  await list();
  clearImmediate(other);
  assert.ok(turns >= 10, `${turns} turns`);
  const tookMs = nowMs;
  const before = performance.now();
  // The clock of the test stands unless it is asked; what is waited is what that clock says is left.
  await list();
  assert.ok(performance.now() - before >= tookMs * 3, `${performance.now() - before} ms after ${tookMs} ms`);
});
