import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { openDeadline } from "./deadline.ts";

test("ends with the first of its signals, and says why", () => {
  const [one, two] = [new AbortController(), new AbortController()];
  using deadline = openDeadline(60_000, one.signal, two.signal);
  assert.equal(deadline.signal.aborted, false);
  two.abort(new Error("two"));
  one.abort(new Error("one"));
  assert.match(String(deadline.signal.reason), /two/);
  using late = openDeadline(60_000, one.signal);
  assert.match(String(late.signal.reason), /one/);
});

test("ends at its time", async () => {
  using deadline = openDeadline(5);
  // The deadline alone keeps no process alive.
  for (let n = 0; n < 200 && !deadline.signal.aborted; n++) await delay(5);
  assert.equal(deadline.signal.reason?.name, "TimeoutError");
});

test("disposed, nothing holds on to it and it ends no more", () => {
  const stop = new AbortController();
  const deadline = openDeadline(60_000, stop.signal);
  assert.equal(getEventListeners(stop.signal, "abort").length, 1);
  deadline[Symbol.dispose]();
  assert.equal(getEventListeners(stop.signal, "abort").length, 0);
  stop.abort();
  assert.equal(deadline.signal.aborted, false);
});
