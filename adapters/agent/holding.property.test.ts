// Random events against the holding's invariants, with a naive picture of the model server and the gateways beside it.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { loadClasses } from "#core/loadqueue.ts";
import { parseRevision, type Revision } from "#core/model.ts";
import { failureKinds } from "../drivers/driver.ts";
import { type CopyState, type CopyView, copyKey } from "./copies.ts";
import type { HeldCopy, HoldingEvent } from "./events.ts";
import { createHolding } from "./holding.ts";

const capacityBytes = 1_000;
const loadConcurrency = 2;
const unloadConcurrency = 2;
const withdrawTimeoutMs = 500;
const maxFailed = 3;

interface Name {
  readonly model: string;
  readonly revision: Revision;
  readonly serverName: string;
  readonly key: string;
}

// Six models; the revisions of each share a slot, as when a slot was freed and given out again.
const names: readonly Name[] = Array.from({ length: 6 }, (_, n) => ["r1", "r2"].map((id) => nameOf(`m${n}`, id, n))).flat();

function nameOf(model: string, id: string, n: number): Name {
  const sizeHintBytes = n % 2 === 0 ? (n + 1) * 120 : undefined;
  const parsed = parseRevision({ id, slot: 0, format: "onnx", storageUri: "file:///m", sizeHintBytes });
  assert.ok(parsed.kind === "ok");
  return { model, revision: parsed.revision, serverName: model, key: `${model}@${id}` };
}

/** Whose a model is. */
function tenantOf(model: string): string {
  return model < "m3" ? "some" : "others";
}

type Phase = "pulling" | "stalled" | "pulled" | "admitted";

class World {
  readonly holding = createHolding({
    capacityBytes,
    loadConcurrency,
    unloadConcurrency,
    withdrawTimeoutMs,
    maxFailed,
    maxQueued: 6,
    minAgeMs: 200,
    headroomBytes: 50,
  });
  nowMs = 0;
  up = false;
  stopped = false;
  readonly gateways = new Set<string>();
  /** What the model server holds, by its names. */
  readonly server = new Map<string, HeldCopy>();
  readonly loading = new Map<string, { name: Name; reservedBytes: number; phase: Phase }>();
  readonly unloading = new Set<string>();
  readonly probing = new Set<string>();
  readonly told = new Map<string, CopyState>();
  readonly owed: { gatewayId: string; key: string }[] = [];
  readonly withdrawals = new Map<number, { keys: readonly string[]; waiting: Set<string>; deadlineMs: number }>();
  sequence = 0;
  /** Of each ask: what its tenant may have here, as said last. */
  readonly tenantBytes = new Map<string, number | undefined>();

  post(event: HoldingEvent): void {
    if (event.kind === "gateway-attached") this.gateways.add(event.gatewayId);
    if (event.kind === "gateway-detached") {
      this.gateways.delete(event.gatewayId);
      this.settle(({ gatewayId }) => gatewayId === event.gatewayId);
      for (const withdrawal of this.withdrawals.values()) withdrawal.waiting.delete(event.gatewayId);
    }
    if (event.kind === "load-cancelled") {
      this.settle(({ gatewayId, key }) => gatewayId === event.gatewayId && key === event.key);
    }
    if (event.kind === "withdraw-acked") this.withdrawals.get(event.sequence)?.waiting.delete(event.gatewayId);
    if (event.kind === "server-lost") this.withdrawals.clear();
    if (event.kind === "load-asked") {
      const key = copyKey({ model: event.model, revision: event.revision.id });
      this.owed.push({ gatewayId: event.gatewayId, key });
      this.tenantBytes.set(key, event.tenantBytes);
    }
    const effects = this.holding.step(event, this.nowMs);
    let started = false;
    for (const [at, effect] of effects.entries()) {
      switch (effect.kind) {
        case "probe":
          assert.ok(!this.probing.has(effect.key), "probed twice at once");
          this.probing.add(effect.key);
          break;
        case "load": {
          const name = names.find(({ key }) => key === effect.key);
          assert.ok(name);
          assert.ok(this.up, "loaded while the server is down");
          assert.ok(!this.server.has(effect.serverName), "two copies of one name on the server");
          assert.ok(!Array.from(this.loading.values()).some((other) => other.name.serverName === effect.serverName));
          this.loading.set(effect.key, { name, reservedBytes: effect.reservedBytes, phase: "pulling" });
          // Gateways tell whose copies are that outlived their adapter as soon as they hear of them.
          if (event.kind !== "server-up") {
            const later = effects.slice(at + 1).flatMap((each) => (each.kind === "load" ? [each.key] : []));
            this.checkTenant(tenantOf(name.model), this.tenantBytes.get(effect.key), new Set(later));
          }
          started = true;
          break;
        }
        case "admit": {
          const load = this.loading.get(effect.key);
          assert.equal(load?.phase, "pulled", "admitted what does not wait for it");
          if (load !== undefined) load.phase = "admitted";
          assert.ok(this.count("admitted") <= loadConcurrency, "the model server loads too many at a time");
          break;
        }
        case "unload": {
          const held = this.server.get(effect.serverName);
          assert.equal(held && copyKey(held), effect.key, "unloaded what is not there");
          assert.equal(this.holding.view(effect.key)?.state, "leaving");
          const withdrawal = Array.from(this.withdrawals.values()).findLast(({ keys }) => keys.includes(effect.key));
          assert.ok(withdrawal, "unloaded without a withdrawal");
          assert.ok(withdrawal.waiting.size === 0 || this.nowMs >= withdrawal.deadlineMs, "unloaded before the acks");
          this.unloading.add(effect.key);
          break;
        }
        case "publish":
          assert.equal(effect.sequence, ++this.sequence);
          assert.ok(effect.changes.length > 0);
          for (const view of effect.changes) this.see(view, effect.withdraw);
          if (effect.withdraw) {
            const keys = effect.changes.map(copyKey);
            this.withdrawals.set(effect.sequence, {
              keys,
              waiting: new Set(this.gateways),
              deadlineMs: this.nowMs + withdrawTimeoutMs,
            });
          }
          break;
        // No drain is among the events here.
        case "draining":
          assert.fail("drains unasked");
          break;
        case "tell":
          assert.ok(this.gateways.has(effect.gatewayId));
          for (const sequence of effect.withdrawals) this.withdrawals.get(sequence)?.waiting.add(effect.gatewayId);
          for (const view of effect.changes)
            if (isOutcome(view) && view.state !== "leaving")
              this.settle((ask) => ask.gatewayId === effect.gatewayId && ask.key === copyKey(view));
          break;
        case "refuse":
          this.settle((ask) => ask.gatewayId === effect.gatewayId && ask.key === copyKey(effect));
          break;
      }
    }
    this.check(started);
  }

  count(phase: Phase): number {
    return Array.from(this.loading.values()).filter((load) => load.phase === phase).length;
  }

  pull(at: number, phase: "stalled" | "pulling" | "pulled"): void {
    const [key, load] = pick([...this.loading], at) ?? [];
    if (key === undefined || load === undefined || load.phase === "pulled" || load.phase === "admitted") return;
    if (load.phase === phase) return;
    load.phase = phase;
    this.post(phase === "pulled" ? { kind: "pulled", key } : { kind: "pull-stalled", key, stalled: phase === "stalled" });
  }

  checkTenant(tenant: string, mayBytes: number | undefined, later: ReadonlySet<string>): void {
    if (mayBytes === undefined) return;
    const copies = this.holding.views().filter(({ model, state }) => tenantOf(model) === tenant && holds.has(state));
    const bytes = copies.reduce((sum, copy) => sum + (later.has(copyKey(copy)) ? 0 : copy.sizeBytes), 0);
    assert.ok(bytes <= mayBytes, `a tenant has ${bytes} and may have ${mayBytes}`);
  }

  see(view: CopyView, withdraw: boolean): void {
    const key = copyKey(view);
    assert.equal(view.state === "leaving", withdraw);
    assert.equal(this.holding.view(key)?.state ?? "gone", view.state);
    this.told.set(key, view.state);
    if (isOutcome(view)) this.settle((ask) => ask.key === key);
  }

  settle(isSettled: (ask: { gatewayId: string; key: string }) => boolean): void {
    for (let at = this.owed.length - 1; at >= 0; at--) if (isSettled(this.owed[at]!)) this.owed.splice(at, 1);
  }

  check(started: boolean): void {
    const views = this.holding.views();
    const bytes = (...states: CopyState[]): number =>
      views.filter(({ state }) => states.includes(state)).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const gauges = this.holding.gauges(this.nowMs);
    assert.equal(gauges.usedBytes, bytes("ready", "leaving"));
    assert.equal(gauges.reservedBytes, bytes("loading"));
    if (started) assert.ok(gauges.usedBytes + gauges.reservedBytes <= capacityBytes, "promised more than there is");
    assert.equal(gauges.loading, this.loading.size);
    assert.ok(this.loading.size <= loadConcurrency + names.length);
    if (started) assert.ok(this.loading.size - this.count("stalled") <= loadConcurrency);
    assert.ok(this.count("pulled") === 0 || this.count("admitted") === loadConcurrency, "a load waits for no reason");
    assert.ok(this.unloading.size <= unloadConcurrency);
    assert.ok(views.filter(({ state }) => state === "failed").length <= maxFailed);
    for (const view of views) assert.equal(this.told.get(copyKey(view)), view.state, "gateways were told otherwise");
    for (const [key, state] of this.told) if (state !== "gone") assert.ok(this.holding.view(key), `${key} vanished untold`);
    const dueMs = this.holding.nextDueMs();
    assert.ok(dueMs === undefined || dueMs > this.nowMs, "something is due and was not done");
  }

  ask(gateway: number, name: number, loadClass: number, waitMs: number, tenantBytes?: number): void {
    const gatewayId = `g${gateway % 3}`;
    const { model, revision, serverName } = pick(names, name);
    if (!this.gateways.has(gatewayId)) return;
    this.post({
      kind: "load-asked",
      gatewayId,
      model,
      revision,
      serverName,
      loadClass: pick(loadClasses, loadClass),
      waitMs,
      idleMs: 10,
      tenant: tenantOf(model),
      tenantBytes,
    });
  }

  finishLoad(at: number, sizeBytes: number, ok: boolean): void {
    const found = pick([...this.loading], at);
    if (found === undefined) return;
    const [key, load] = found;
    const { name } = load;
    if (ok && load.phase !== "admitted") this.pull(at, "pulled");
    if (ok && load.phase !== "admitted") return;
    this.loading.delete(key);
    if (ok) {
      const { model, serverName, revision } = name;
      this.server.set(serverName, { model, revision: revision.id, slot: 0, serverName, sizeBytes });
      this.post({ kind: "loaded", key, sizeBytes, measured: true });
    } else this.post({ kind: "load-failed", key, failure: pick(failureKinds, sizeBytes), reason: "broken" });
  }

  finishUnload(at: number, ok: boolean): void {
    const key = pick([...this.unloading], at);
    if (key === undefined) return;
    this.unloading.delete(key);
    if (ok) {
      this.server.delete(key.slice(0, key.indexOf("@")));
      this.post({ kind: "unloaded", key });
    } else this.post({ kind: "unload-failed", key });
  }

  finishProbe(at: number, artefactBytes: number, ok: boolean): void {
    const key = pick([...this.probing], at);
    if (key === undefined) return;
    this.probing.delete(key);
    if (ok) this.post({ kind: "probed", key, artefactBytes });
    else this.post({ kind: "probe-failed", key, failure: "storage", reason: "away" });
  }

  lose(): void {
    if (!this.up) return;
    this.up = false;
    this.server.clear();
    this.unloading.clear();
    this.post({ kind: "server-lost" });
    // As the agent does: calls under way fail with the server.
    while (this.loading.size > 0) this.finishLoad(0, 0, false);
  }

  rise(held: number): void {
    if (this.up) return;
    this.up = true;
    for (const { model, revision, serverName } of names.slice(0, held % 4)) {
      this.server.set(serverName, { model, revision: revision.id, slot: 0, serverName, sizeBytes: 400 });
    }
    this.post({ kind: "server-up", held: [...this.server.values()] });
    this.post({ kind: "owned", owners: new Map(names.map(({ model }) => [model, tenantOf(model)])) });
  }

  forget(at: number): void {
    const held = pick([...this.server.values()], at);
    if (held === undefined || this.holding.view(copyKey(held))?.state !== "ready") return;
    this.server.delete(held.serverName);
    this.post({ kind: "copy-missing", key: copyKey(held) });
  }

  ack(at: number): void {
    const found = pick(
      Array.from(this.withdrawals).flatMap(([sequence, { waiting }]) =>
        Array.from(waiting, (gatewayId) => ({ sequence, gatewayId })),
      ),
      at,
    );
    if (found !== undefined) this.post({ kind: "withdraw-acked", ...found });
  }

  /** Only copies of that tenant leave, and enough of them, but for what loads; what begins to load after it does not count. */
  trim(tenant: string, bytes: number): void {
    const loading = new Set(this.loading.keys());
    const there = (): readonly CopyView[] => this.holding.views().filter(({ state }) => state === "ready");
    const others = there().filter(({ model }) => tenantOf(model) !== tenant);
    this.post({ kind: "trimmed", tenant, bytes });
    const own = this.holding
      .views()
      .filter((view) => tenantOf(view.model) === tenant && (view.state === "ready" || loading.has(copyKey(view))));
    const left = own.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    assert.ok(left <= bytes || own.every(({ state }) => state === "loading"), "what is over stayed");
    if (this.holding.gauges(this.nowMs).queued === 0)
      for (const { model, revision } of others)
        assert.ok(there().some((copy) => copy.model === model && copy.revision === revision));
  }

  /** Time goes on from one due moment to the next, as the agent's timer does. */
  advance(ms: number): void {
    const endMs = this.nowMs + ms;
    for (;;) {
      const dueMs = this.holding.nextDueMs();
      this.nowMs = Math.min(endMs, Math.max(this.nowMs, dueMs ?? endMs));
      this.post({ kind: "tick" });
      if (this.nowMs >= endMs) return;
    }
  }

  step([what, a, b, c]: readonly [number, number, number, number]): void {
    const actions: readonly (() => void)[] = [
      () => this.ask(a, b, c, (c % 5) * 400),
      () => this.ask(a, b, 0, 2_000),
      () => this.ask(a, b, 0, 5_000),
      () => this.ask(a, b, c % 3, 5_000, a * 4),
      () => this.ask(a, b, 0, 5_000, 300 + c),
      () => this.trim(a % 2 === 0 ? "some" : "others", b * 3),
      () => this.finishLoad(a, 1 + ((b * 37) % 500), c % 4 !== 0),
      () => this.finishLoad(a, pick(names, b).revision.sizeHintBytes ?? 100, true),
      () => this.finishUnload(a, c % 3 !== 0),
      () => this.finishProbe(a, (b * 13) % 300, c % 4 !== 0),
      () => this.finishProbe(a, b, true),
      () => this.ack(a),
      () => this.ack(a),
      () => this.advance(a * 3),
      () => this.post({ kind: "load-cancelled", gatewayId: `g${a % 3}`, key: pick(names, b).key }),
      () => (this.gateways.has(`g${a % 3}`) ? undefined : this.post({ kind: "gateway-attached", gatewayId: `g${a % 3}` })),
      () => (c % 4 === 0 ? this.post({ kind: "gateway-detached", gatewayId: `g${a % 3}` }) : undefined),
      () => this.post({ kind: "used", uses: [{ key: pick(names, a).key, idleMs: b, requests: 1 }] }),
      () => (c % 8 === 0 ? this.lose() : undefined),
      () => this.rise(a),
      () => this.forget(a),
      () => this.pull(a, "stalled"),
      () => this.pull(a, "stalled"),
      () => this.pull(a, "pulling"),
      () => this.pull(a, "pulled"),
    ];
    pick(actions, what)();
  }

  finish(): void {
    this.rise(0);
    for (let round = 0; round < 200; round++) {
      while (this.probing.size > 0) this.finishProbe(0, 100, true);
      for (let at = 0; this.loading.size > 0; at++) this.finishLoad(at, 100, true);
      while (this.unloading.size > 0) this.finishUnload(0, true);
      this.advance(100);
    }
    assert.deepEqual(this.owed, [], "an ask never ended");
    const { usedBytes, reservedBytes, queued, loading } = this.holding.gauges(this.nowMs);
    assert.ok(usedBytes <= capacityBytes, "what was over is not repaid");
    assert.deepEqual({ reservedBytes, queued, loading }, { reservedBytes: 0, queued: 0, loading: 0 });
    assert.ok(this.holding.views().every(({ state }) => state === "ready" || state === "failed"));
  }
}

const holds: ReadonlySet<CopyState> = new Set(["ready", "loading"]);

/** `leaving` as well: it was loaded, and went at once for another one. */
function isOutcome(view: CopyView): boolean {
  return view.state === "ready" || view.state === "failed" || view.state === "leaving";
}

function pick<T>(list: readonly T[], at: number): T {
  return list[at % list.length] as T;
}

const byte = fc.nat({ max: 255 });

describe("holding", () => {
  test("keeps its invariants, whatever happens", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(byte, byte, byte, byte), { maxLength: 300, size: "max" }), (steps) => {
        const world = new World();
        world.post({ kind: "gateway-attached", gatewayId: "g0" });
        world.rise(0);
        for (const step of steps) world.step(step);
        world.finish();
      }),
      { numRuns: 500 },
    );
  });

  test("refuses everything once it is stopping, and still ends what it began", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(byte, byte, byte, byte), { maxLength: 100, size: "max" }),
        fc.nat({ max: 99 }),
        (steps, at) => {
          const world = new World();
          world.post({ kind: "gateway-attached", gatewayId: "g0" });
          world.rise(0);
          for (const [n, step] of steps.entries()) {
            if (n === at) world.post({ kind: "stopping" });
            world.step(step);
          }
          world.finish();
        },
      ),
      { numRuns: 100 },
    );
  });
});
