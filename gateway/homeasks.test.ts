import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import { ask, change, copy, openLoadsBench } from "./loadstesting.ts";
import { silentSpan } from "./spans.ts";
import { modelOf, podInfo } from "./testing.ts";

test("what the home of an unregistered model says later is not listened to", async () => {
  const { loads, others, peerAsks } = openLoadsBench();
  others.push("b");
  const asked = ask(loads, "x");
  loads.onUnregistered("x");
  assert.equal((await asked).kind, "failed");
  assert.deepEqual([peerAsks[0]?.cancelled, loads.flights], [true, 0]);
});

test("the home is asked, and a request goes on when this gateway's own Link tells of the copy", async () => {
  const { fleet, loads, sent, settle, others, peerAsks } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  others.push("g2");
  const asked = Array.from({ length: 100 }, () => ask(loads, "x"));
  assert.deepEqual(
    peerAsks.map(({ gatewayId, ask: { model, loadClass } }) => [gatewayId, model, loadClass]),
    [["g2", "x", "waiting-user"]],
  );
  change(fleet, "a", copy("x", "loading"));
  change(fleet, "a", copy("x", "ready"));
  settle("~a");
  for (const result of await Promise.all(asked)) assert.equal(result.kind, "live");
  assert.deepEqual(sent, []);
  assert.equal(peerAsks[0]?.cancelled, true);
});

test("what the home says of the model is the answer, and is remembered", async () => {
  const { fleet, loads, sent, others, peerAsks } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  others.push("g2");
  const asked = ask(loads, "x");
  const bad = { kind: "failed", code: "model-load-failed", reason: "no ONNX", retryAfterMs: 5_000 } as const;
  peerAsks[0]?.listener.onFailed(bad);
  assert.deepEqual(await asked, bad);
  const again = await ask(loads, "x");
  assert.equal(again.kind === "failed" ? again.reason : "", "no ONNX");
  assert.equal(peerAsks.length, 1);
  assert.deepEqual(sent, []);
});

test("a home that does not answer, or cannot judge, is passed over: the next decides, in the end this gateway", async () => {
  const { fleet, loads, sent, settle, others, peerAsks } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  others.push("g2", "g3");
  const asked = ask(loads, "x");
  peerAsks[0]?.listener.onLost("no answer within 250 ms");
  assert.deepEqual([peerAsks[1]?.gatewayId, sent.length], ["g3", 0]);
  peerAsks[1]?.listener.onFailed({ kind: "failed", code: "no-pods", reason: "cut off" });
  assert.deepEqual(sent, ["load a x"]);
  change(fleet, "a", copy("x", "ready"));
  settle("~a");
  assert.equal((await asked).kind, "live");
});

test("a gateway that is asked as the home decides, though it believes another to be it", async () => {
  const { fleet, loads, sent, settle, others, peerAsks } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  others.push("g2");
  const own = ask(loads, "x");
  const deadlineMs = systemClock.monotonicMs() + 10_000;
  const peers = loads.ensure(modelOf("x"), { deadlineMs, signal: new AbortController().signal, span: silentSpan, here: true });
  assert.equal(peerAsks[0]?.cancelled, true);
  assert.deepEqual(sent, ["load a x"]);
  change(fleet, "a", copy("x", "ready"));
  settle("~a");
  assert.deepEqual([(await own).kind, (await peers).kind], ["live", "live"]);
});

test("the home of a model waits for those who join as well: it is asked for as long as a load may take", () => {
  const { loads, others, peerAsks } = openLoadsBench({ loadTimeoutMs: 10_000 });
  others.push("home");
  void ask(loads, "x", 50);
  assert.deepEqual(
    peerAsks.map(({ ask: { waitMs } }) => waitMs),
    [10_000],
  );
});
