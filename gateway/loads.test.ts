import assert from "node:assert/strict";
import { test } from "node:test";
import { type Model, parseModel } from "#core/model.ts";
import { systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { waitFor } from "#platform/testing.ts";
import { createDecisions } from "./decisions.ts";
import { type Copy, type CopyChange, createFleet, type Fleet, type PodInfo } from "./fleet.ts";
import type { Ensured } from "./flight.ts";
import { createLoads, type Loads } from "./loads.ts";
import type { PeerAsk, PeerAskListener } from "./peers.ts";
import { createPlacements } from "./placements.ts";
import type { Routes } from "./routes.ts";
import { silentSpan } from "./spans.ts";
import { createSuspects, type Suspects } from "./suspects.ts";

interface Bench {
  readonly fleet: Fleet;
  readonly loads: Loads;
  /** "load pod model" and "cancel pod model", in order. */
  readonly sent: string[];
  /** Models that Envoy has acknowledged. */
  readonly settled: Set<string>;
  settle(model: string): void;
  /** Gateways that live besides this one; all of them are home of everything, in this order. */
  readonly others: string[];
  /** Pods that were asked in the background. */
  readonly asked: string[];
  readonly peerAsks: PeerAskSeen[];
  /** Deaths of model servers are to be told here before the fleet hears of them. */
  readonly suspects: Suspects;
}

interface PeerAskSeen {
  readonly gatewayId: string;
  readonly ask: PeerAsk;
  readonly listener: PeerAskListener;
  cancelled: boolean;
}

function openBench(options: { maxWaiting?: number; loadTimeoutMs?: number } = {}): Bench {
  const sent: string[] = [];
  const settled = new Set<string>();
  const waiters = new Map<string, (() => void)[]>();
  const routes: Routes = {
    refresh: () => undefined,
    entry: (podId) => (fleet.pod(podId) === undefined ? undefined : `~${podId}`),
    lacking: () => [],
    isRouted: (model) => [...fleet.holders(model)].some(({ copy }) => copy.state === "ready"),
    isSettled: (model) => settled.has(model),
    async whenSettled(model, signal) {
      if (settled.has(model)) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      waiters.set(model, [...(waiters.get(model) ?? []), resolve]);
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      await promise;
    },
    onAcked: () => undefined,
  };
  const fleet = createFleet({
    onCopies(podId, changes) {
      suspects.onCopies(podId, changes);
      loads.onCopies(podId, changes);
    },
    onPod: (podId) => {
      if (fleet.pod(podId)?.reachable !== true) loads.onUnreachable(podId);
    },
  });
  const others: string[] = [];
  const asked: string[] = [];
  const peerAsks: PeerAskSeen[] = [];
  const suspects = createSuspects(systemClock);
  const loads = createLoads({
    fleet,
    routes,
    placements: createPlacements(fleet, systemClock),
    home: {
      of(_model, passedOver = new Set()) {
        const gatewayId = others.find((id) => !passedOver.has(id));
        return gatewayId === undefined ? undefined : { gatewayId, incarnation: "1", peerAddress: `${gatewayId}:1` };
      },
      suspect: () => undefined,
    },
    peers: {
      ensure({ gatewayId }, ask, listener) {
        const seen = { gatewayId, ask, listener, cancelled: false };
        peerAsks.push(seen);
        return () => {
          seen.cancelled = true;
        };
      },
    },
    suspects,
    decisions: createDecisions(systemClock),
    clock: systemClock,
    log: silentLog,
    asked: () => asked,
    sendLoad: (podId, model) => sent.push(`load ${podId} ${model}`),
    cancelLoad: (podId, model) => sent.push(`cancel ${podId} ${model}`),
    maxWaiting: options.maxWaiting ?? 100,
    loadTimeoutMs: options.loadTimeoutMs ?? 10_000,
  });
  const settle = (model: string): void => {
    settled.add(model);
    for (const waiter of waiters.get(model) ?? []) waiter();
  };
  return { fleet, loads, sent, settled, settle, others, asked, peerAsks, suspects };
}

function podInfo(podId: string): PodInfo {
  const address = { host: "127.0.0.1", port: 9_000 };
  return {
    podId,
    incarnation: "1",
    runtime: "onnx",
    capacityBytes: 1e9,
    rest: address,
    grpc: address,
    labels: {},
    formats: ["onnx"],
  };
}

function modelOf(name: string): Model {
  const revision = { id: "r1", slot: 0, format: "onnx", storageUri: "file:///m.onnx", sizeHintBytes: 1_000 };
  const parsed = parseModel({ name, revisions: [revision], active: "r1" });
  assert.equal(parsed.kind, "ok");
  return parsed.kind === "ok" ? parsed.model : assert.fail();
}

function copy(model: string, state: Copy["state"], failure?: Copy["failure"]): Copy {
  return { model, revision: "r1", slot: 0, state, sizeBytes: 1_000, ...(failure === undefined ? {} : { failure }) };
}

function ask(loads: Loads, name: string, deadlineMs = 10_000, signal = new AbortController().signal): Promise<Ensured> {
  return loads.ensure(modelOf(name), { deadlineMs: systemClock.monotonicMs() + deadlineMs, signal, span: silentSpan });
}

function change(fleet: Fleet, podId: string, ...changes: CopyChange[]): void {
  fleet.change(podId, changes);
}

test("a thousand requests for one cold model load it once and are answered when Envoy has the pod's entry", async () => {
  const { fleet, loads, sent, settle } = openBench({ maxWaiting: 2_000 });
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
  const { fleet, loads, sent, settle, asked } = openBench();
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
  const { fleet, loads, sent, settle } = openBench();
  fleet.attach(podInfo("a"), [copy("x", "ready")]);
  settle("~a");
  assert.deepEqual(await ask(loads, "x"), { kind: "live", waitedMs: 0, entry: "~a" });
  assert.deepEqual(sent, []);
});

test("a load that a pod cannot do is done by another", async () => {
  const { fleet, loads, sent, settle } = openBench();
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
  const { fleet, loads, sent, settle } = openBench();
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
  const { fleet, loads, sent } = openBench();
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
  const { loads } = openBench();
  const failed = await ask(loads, "x");
  assert.equal(failed.kind === "failed" ? failed.code : "", "no-pods");
});

test("a refused load goes to the next pod, and the last refusal is what the client hears", async () => {
  const { fleet, loads, sent } = openBench();
  fleet.attach(podInfo("a"), []);
  const asked = ask(loads, "x");
  loads.onRefused("a", "x", "r1", "queue-full", "10000 loads are queued");
  const failed = await asked;
  assert.equal(failed.kind === "failed" ? failed.code : "", "queue-full");
  assert.equal(sent.length, 1);
});

test("a request has its own deadline, and the last to leave takes the load back", async () => {
  const { fleet, loads, sent } = openBench();
  fleet.attach(podInfo("a"), []);
  const failed = await ask(loads, "x", 20);
  assert.equal(failed.kind === "failed" ? failed.code : "", "deadline-exceeded");
  assert.deepEqual(sent, ["load a x", "cancel a x"]);
  assert.equal(loads.flights, 0);
});

test("a client that leaves frees its place; the others go on waiting", async () => {
  const { fleet, loads, sent, settle } = openBench();
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

test("more waiting requests than allowed are refused with a time to come back", async () => {
  const { fleet, loads } = openBench({ maxWaiting: 2 });
  fleet.attach(podInfo("a"), []);
  const asked = [ask(loads, "x", 50), ask(loads, "y", 50)];
  const refused = await ask(loads, "z");
  assert.deepEqual(refused.kind === "failed" ? [refused.code, refused.retryAfterMs] : [], ["queue-full", 1_000]);
  await Promise.all(asked);
});

test("a pod that falls silent in a load is passed over", async () => {
  const { fleet, loads, sent, settle } = openBench({ loadTimeoutMs: 20 });
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

test("a pod that gives a load up is asked again after a pause when there is no other", async () => {
  const { fleet, loads, sent, settle } = openBench();
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
  const { fleet, loads, sent } = openBench();
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
  const { fleet, loads, sent, settle } = openBench();
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
  const { fleet, loads, sent, settle } = openBench();
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

test("the home is asked, and a request goes on when this gateway's own Link tells of the copy", async () => {
  const { fleet, loads, sent, settle, others, peerAsks } = openBench();
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
  const { fleet, loads, sent, others, peerAsks } = openBench();
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
  const { fleet, loads, sent, settle, others, peerAsks } = openBench();
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
  const { fleet, loads, sent, settle, others, peerAsks } = openBench();
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

test("a load of another gateway that is under way is joined rather than begun again", async () => {
  const { fleet, loads, sent } = openBench();
  fleet.attach(podInfo("a"), []);
  fleet.attach(podInfo("b"), [copy("x", "loading")]);
  const asked = ask(loads, "x", 50);
  assert.deepEqual(sent, ["load b x"]);
  await asked;
});

test("a user's request raises a load that was asked for in the background", async () => {
  const { fleet, loads, sent, settle } = openBench();
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
  const { fleet, loads, sent } = openBench();
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

test("a fleet without room says so after a few pods", async () => {
  const { fleet, loads, sent } = openBench();
  for (let pod = 0; pod < 20; pod++) fleet.attach(podInfo(`p${pod}`), []);
  const asked = ask(loads, "x");
  for (let refused = 0; refused < 3; refused++) {
    loads.onRefused(sent[refused]!.split(" ")[1]!, "x", "r1", "no-capacity", "every copy is used much more");
  }
  const failed = await asked;
  assert.ok(failed.kind === "failed" && failed.code === "no-capacity" && (failed.retryAfterMs ?? 0) > 0);
  assert.equal(sent.length, 3);
});
