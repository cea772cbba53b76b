import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import { waitFor } from "#platform/testing.ts";
import { loadPatienceMs } from "./fleet.ts";
import type { LoadTimes } from "./linkmessages.ts";
import { ask, change, copy, openLoadsBench } from "./loadstesting.ts";
import { type MissSpan, silentSpan } from "./spans.ts";
import { modelOf, podInfo } from "./testing.ts";

test("a thousand requests for one cold model load it once and are answered when Envoy has the pod's entry", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench({ maxWaiting: 2_000 });
  fleet.attach(podInfo("a"), []);
  const asked = Array.from({ length: 1_000 }, () => ask(loads, "x"));
  assert.deepEqual(sent, ["load a x"]);
  assert.equal(loads.waiting, 1_000);
  change(fleet, "a", copy("x", "loading"));
  change(fleet, "a", copy("x", "ready"));
  let answered = false;
  void Promise.race(asked).then(() => (answered = true));
  await new Promise(setImmediate);
  assert.equal(answered, false, "the pod is not yet known to Envoy");
  settle("~a");
  for (const result of await Promise.all(asked)) assert.equal(result.kind, "live");
  assert.equal(loads.waiting, 0);
  assert.equal(loads.flights, 0);
});

test("a pod that was asked for a copy in the background just now is asked for it again, and no other", async () => {
  const { fleet, loads, sent, settle, asked } = openLoadsBench();
  for (const podId of ["a", "b", "c"]) fleet.attach(podInfo(podId), []);
  asked.push("c");
  const result = ask(loads, "x");
  assert.deepEqual(sent, ["load c x"]);
  assert.equal(loads.isFlying("x", "r1"), true);
  settle("~c");
  change(fleet, "c", copy("x", "ready"));
  assert.equal((await result).kind, "live");
});

test("a warm model is live at once", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench();
  fleet.attach(podInfo("a"), [copy("x", "ready")]);
  settle("~a");
  assert.deepEqual(await ask(loads, "x"), { kind: "live", waitedMs: 0, entry: "~a" });
  assert.deepEqual(sent, []);
});

test("a load that a pod cannot do is done by another", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  fleet.attach(podInfo("b"), []);
  const asked = ask(loads, "x");
  const first = sent[0]!.split(" ")[1]!;
  const second = first === "a" ? "b" : "a";
  change(fleet, first, copy("x", "failed", { kind: "pod", reason: "out of memory" }));
  assert.deepEqual(sent, [`load ${first} x`, `load ${second} x`]);
  change(fleet, second, copy("x", "ready"));
  settle(`~${second}`);
  assert.equal((await asked).kind, "live");
});

test("with one good pod of three every model is loaded, however many are asked for at once", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench();
  for (const podId of ["bad-1", "good", "bad-2"]) fleet.attach(podInfo(podId), []);
  const names = Array.from({ length: 30 }, (_, at) => `x${at}`);
  const asked = names.map((name) => ask(loads, name));
  settle("~good");
  for (let at = 0; at < sent.length; at++) {
    const [, podId = "", name = ""] = sent[at]!.split(" ");
    const failure = { kind: "pod", reason: "its disk is full" } as const;
    change(fleet, podId, podId === "good" ? copy(name, "ready") : copy(name, "failed", failure));
  }
  assert.deepEqual(new Set((await Promise.all(asked)).map(({ kind }) => kind)), new Set(["live"]));
  assert.ok(sent.length <= 3 * names.length, `${sent.length} loads of ${names.length} models`);
});

test("a bad model is not carried from pod to pod, and is known bad for a while", async () => {
  const { fleet, loads, sent } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  fleet.attach(podInfo("b"), []);
  const asked = ask(loads, "x");
  change(fleet, sent[0]!.split(" ")[1]!, copy("x", "failed", { kind: "model", reason: "no ONNX" }));
  const failed = await asked;
  assert.equal(failed.kind === "failed" ? failed.code : "", "model-load-failed");
  assert.equal(sent.length, 1);
  const again = await ask(loads, "x");
  assert.equal(again.kind === "failed" ? again.reason : "", "no ONNX");
  assert.ok(again.kind === "failed" && (again.retryAfterMs ?? 0) > 0);
  assert.equal(sent.length, 1, "answered from memory");
});

test("no pod at all is said at once", async () => {
  const { loads } = openLoadsBench();
  const failed = await ask(loads, "x");
  assert.equal(failed.kind === "failed" ? failed.code : "", "no-pods");
});

test("a refused load goes to the next pod, and the last refusal is what the client hears", async () => {
  const { fleet, loads, sent } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  const asked = ask(loads, "x");
  loads.onRefused("a", "x", "r1", "queue-full", "10000 loads are queued");
  const failed = await asked;
  assert.equal(failed.kind === "failed" ? failed.code : "", "queue-full");
  assert.equal(sent.length, 1);
});

test("a request has its own deadline, and the last to leave takes the load back", async () => {
  const { fleet, loads, sent } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  const failed = await ask(loads, "x", 20);
  assert.equal(failed.kind === "failed" ? failed.code : "", "deadline-exceeded");
  assert.deepEqual(sent, ["load a x", "cancel a x"]);
  assert.equal(loads.flights, 0);
});

test("a client that leaves frees its place; the others go on waiting", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  const leaving = new AbortController();
  const stays = ask(loads, "x");
  const leaves = ask(loads, "x", 10_000, leaving.signal);
  leaving.abort();
  assert.equal((await leaves).kind, "failed");
  assert.equal(loads.waiting, 1);
  change(fleet, "a", copy("x", "ready"));
  settle("~a");
  assert.equal((await stays).kind, "live");
  assert.deepEqual(sent, ["load a x"]);
});

test("a model that is unregistered is waited for no longer: its load is taken back, and nothing is remembered of it", async () => {
  const { fleet, loads, sent, settled } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  const gone = [ask(loads, "x"), ask(loads, "x")];
  const stays = ask(loads, "y");
  loads.onUnregistered("x");
  for (const result of await Promise.all(gone)) {
    assert.equal(result.kind === "failed" ? result.code : result.kind, "model-not-found");
  }
  assert.deepEqual(sent, ["load a x", "load a y", "cancel a x"]);
  assert.deepEqual([loads.waiting, loads.flights], [1, 1]);
  settled.add("~a");
  change(fleet, "a", copy("y", "ready"));
  assert.equal((await stays).kind, "live");
  const again = ask(loads, "x");
  change(fleet, "a", copy("x", "ready"));
  assert.equal((await again).kind, "live");
});

test("more waiting requests than allowed are refused with a time to come back", async () => {
  const { fleet, loads } = openLoadsBench({ maxWaiting: 2 });
  fleet.attach(podInfo("a"), []);
  const asked = [ask(loads, "x", 50), ask(loads, "y", 50)];
  const refused = await ask(loads, "z");
  assert.deepEqual(refused.kind === "failed" ? [refused.code, refused.retryAfterMs] : [], ["queue-full", 1_000]);
  await Promise.all(asked);
});

test("a pod that falls silent in a load is passed over", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench({ loadTimeoutMs: 20 });
  fleet.attach(podInfo("a"), []);
  fleet.attach(podInfo("b"), []);
  const asked = ask(loads, "x");
  const first = sent[0]!.split(" ")[1]!;
  fleet.setUnreachable(first);
  fleet.detach(first);
  const second = first === "a" ? "b" : "a";
  change(fleet, second, copy("x", "ready"));
  settle(`~${second}`);
  assert.equal((await asked).kind, "live");
});

test("a pod that says that its loads take longer is given that time, and a moment to say so", () => {
  assert.deepEqual(
    [undefined, 100, 60_000].map((loadTimeoutMs) =>
      loadPatienceMs(20_000, loadTimeoutMs === undefined ? undefined : podInfo("a", { loadTimeoutMs })),
    ),
    [20_000, 20_000, 65_000],
  );
});

test("a pod that gives a load up is asked again after a pause when there is no other", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  const asked = ask(loads, "x");
  change(fleet, "a", copy("x", "loading"));
  change(fleet, "a", { ...copy("x", "loading"), state: "gone" });
  assert.deepEqual(sent, ["load a x"]);
  await waitFor(() => sent.length === 2);
  change(fleet, "a", copy("x", "ready"));
  settle("~a");
  assert.equal((await asked).kind, "live");
});

test("a pod that fails each time is asked a few times only, and then the client hears why", async () => {
  const { fleet, loads, sent } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  const asked = ask(loads, "x");
  for (let round = 1; round <= 6; round++) {
    await waitFor(() => sent.length === round);
    change(fleet, "a", copy("x", "failed", { kind: "pod", reason: "out of memory" }));
  }
  const failed = await asked;
  assert.deepEqual(failed.kind === "failed" ? [failed.code, failed.reason] : [], ["pod-failed", "out of memory"]);
  assert.equal(sent.length, 6);
});

test("a load asked of a pod that becomes unreachable is asked of another at once, though the first never told of it", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  fleet.attach(podInfo("b"), []);
  const asked = ask(loads, "x");
  const first = sent[0]!.split(" ")[1]!;
  const second = first === "a" ? "b" : "a";
  fleet.setUnreachable(first);
  assert.deepEqual(sent, [`load ${first} x`, `load ${second} x`]);
  change(fleet, second, copy("x", "ready"));
  settle(`~${second}`);
  assert.equal((await asked).kind, "live");
});

test("a ready copy behind a dead adapter is used only where no other pod can load the model", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench();
  fleet.attach(podInfo("a"), [copy("x", "ready"), copy("y", "ready")]);
  fleet.setUnreachable("a");
  settle("~a");
  const alone = await ask(loads, "x");
  assert.equal(alone.kind === "live" ? alone.entry : alone.reason, "~a");
  fleet.attach(podInfo("b"), []);
  const asked = ask(loads, "y");
  assert.deepEqual(sent, ["load b y"]);
  change(fleet, "b", copy("y", "ready"));
  settle("~b");
  const elsewhere = await asked;
  assert.equal(elsewhere.kind === "live" ? elsewhere.entry : elsewhere.reason, "~b");
});

test("a load of another gateway that is under way is joined rather than begun again", async () => {
  const { fleet, loads, sent } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  fleet.attach(podInfo("b"), [copy("x", "loading")]);
  const asked = ask(loads, "x", 50);
  assert.deepEqual(sent, ["load b x"]);
  await asked;
});

test("a user's request raises a load that was asked for in the background", async () => {
  const { fleet, loads, sent, settle } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  const deadlineMs = systemClock.monotonicMs() + 10_000;
  const signal = new AbortController().signal;
  const background = loads.ensure(modelOf("x"), { deadlineMs, signal, span: silentSpan, loadClass: "ensure" });
  const user = ask(loads, "x");
  const another = ask(loads, "x");
  assert.deepEqual(sent, ["load a x", "load a x"], "sent again with the higher class, once");
  change(fleet, "a", copy("x", "ready"));
  settle("~a");
  assert.deepEqual(
    (await Promise.all([background, user, another])).map(({ kind }) => kind),
    ["live", "live", "live"],
  );
});

test("a model that kills model servers costs two pods, not all, and the reason is told", async () => {
  const { fleet, loads, sent } = openLoadsBench();
  for (const podId of ["a", "b", "c", "d", "e"]) fleet.attach(podInfo(podId), []);
  const asked = ask(loads, "x");
  for (let death = 0; death < 2; death++) {
    const podId = sent[death]!.split(" ")[1]!;
    change(fleet, podId, copy("x", "failed", { kind: "server-died", reason: "it died", suspects: 1 }));
  }
  const failed = await asked;
  assert.equal(failed.kind === "failed" ? failed.code : "", "model-load-failed");
  assert.match(failed.kind === "failed" ? failed.reason : "", /died while they loaded it/);
  const again = await ask(loads, "x");
  assert.ok(again.kind === "failed" && (again.retryAfterMs ?? 0) > 60_000);
  assert.equal(sent.length, 2);
});

test("a model for which there is no memory is tried on a few pods and not on all, and is not called bad", async () => {
  const { fleet, loads, sent } = openLoadsBench();
  for (let pod = 0; pod < 20; pod++) fleet.attach(podInfo(`p${pod}`), []);
  const asked = ask(loads, "x");
  for (let death = 0; death < 3; death++) {
    const podId = sent[death]!.split(" ")[1]!;
    change(fleet, podId, copy("x", "failed", { kind: "capacity", reason: "the model server was killed for want of memory" }));
  }
  const failed = await asked;
  assert.ok(failed.kind === "failed" && failed.code === "no-capacity" && (failed.retryAfterMs ?? 0) > 0);
  assert.equal(sent.length, 3);
});

test("a fleet without room says so after a few pods", async () => {
  const { fleet, loads, sent } = openLoadsBench();
  for (let pod = 0; pod < 20; pod++) fleet.attach(podInfo(`p${pod}`), []);
  const asked = ask(loads, "x");
  for (let refused = 0; refused < 3; refused++) {
    loads.onRefused(sent[refused]!.split(" ")[1]!, "x", "r1", "no-capacity", "every copy is used much more");
  }
  const failed = await asked;
  assert.ok(failed.kind === "failed" && failed.code === "no-capacity" && (failed.retryAfterMs ?? 0) > 0);
  assert.equal(sent.length, 3);
});

test("while a pod is on its way a load waits for it, and is not told that there is none", async () => {
  let coming = true;
  const { fleet, loads, sent, settle } = openLoadsBench({ awaits: () => coming });
  const asked = ask(loads, "x");
  await waitFor(() => loads.flights === 1);
  fleet.attach(podInfo("a"), []);
  await waitFor(() => sent.length === 1);
  change(fleet, "a", copy("x", "ready"));
  settle("~a");
  assert.equal((await asked).kind, "live");
  fleet.detach("a");
  const other = ask(loads, "y");
  coming = false;
  const failed = await other;
  assert.equal(failed.kind === "failed" ? failed.code : "", "no-pods");
});

test("a bad model is bad whichever pod is on its way", async () => {
  const { fleet, loads, sent } = openLoadsBench({ awaits: () => true });
  fleet.attach(podInfo("a"), []);
  const asked = ask(loads, "x");
  change(fleet, "a", copy("x", "failed", { kind: "storage", reason: "no such bucket" }));
  const failed = await asked;
  assert.equal(failed.kind === "failed" ? failed.code : "", "storage-unavailable");
  assert.equal(sent.length, 1);
});

test("a request that leaves does not take back what is wanted in the background too", async () => {
  const { fleet, loads, sent, asked } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  asked.push("a");
  const left = new AbortController();
  const answer = ask(loads, "x", 10_000, left.signal);
  left.abort();
  assert.equal((await answer).kind, "failed");
  assert.deepEqual(sent, ["load a x"]);
});

test("what a pod did for a load is told to the request that waits for that pod, or for who asked it", async () => {
  const { fleet, loads, others, peerAsks } = openLoadsBench();
  fleet.attach(podInfo("a"), []);
  const divided: string[] = [];
  const spanOf = (of: string): MissSpan => ({
    ...silentSpan,
    step: (name) => ({
      ...spanOf(name),
      divide: (parts, { pod }) => void divided.push(`${of}/${name} ${String(pod)} ${parts.length}`),
    }),
  });
  const times = (model: string): LoadTimes => ({ model, revision: "r1", parts: [{ name: "pull", ms: 1 }] });
  const wait = (model: string) =>
    loads.ensure(modelOf(model), { deadlineMs: systemClock.monotonicMs() + 10_000, signal: gone.signal, span: spanOf("miss") });
  const gone = new AbortController();
  const waits = [wait("x")];
  fleet.attach(podInfo("b"), [copy("y", "loading")]);
  waits.push(wait("y"));
  others.push("g2");
  waits.push(wait("z"));
  assert.equal(peerAsks.length, 1);
  loads.onLoadTimes("b", times("x"));
  loads.onLoadTimes("a", times("x"));
  loads.onLoadTimes("b", times("y"));
  loads.onLoadTimes("b", times("z"));
  loads.onLoadTimes("a", times("nobody-waits"));
  assert.deepEqual(divided, ["park/ask a 1", "park/ask b 1", "park/home b 1"]);
  gone.abort();
  await Promise.all(waits);
});
