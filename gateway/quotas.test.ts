// What a gateway holds tenants to, with quotas from a real registry.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { type Model, parseModel } from "#core/model.ts";
import type { QuotaName, QuotaRules } from "#core/quota.ts";
import { silentLog } from "#platform/log.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { quotaPrefix } from "#platform/registry/quotarecords.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { type CopyChange, createFleet, type Fleet, type PodInfo } from "./fleet.ts";
import { openQuotas, type Quotas } from "./quotas.ts";

interface Bench extends AsyncDisposable {
  readonly registry: Registry;
  readonly fleet: Fleet;
  readonly quotas: Quotas;
  readonly models: Map<string, Model>;
  readonly owners: (readonly [podId: string, owners: Readonly<Record<string, string>>])[];
  readonly trims: (readonly [podId: string, tenant: string, bytes: number])[];
  readonly over: QuotaName[];
  nowMs: number;
  rules: QuotaRules | undefined;
  set(name: string, quota: unknown): Promise<void>;
  hold(podId: string, model: string, state: CopyChange["state"], sizeBytes?: number): void;
}

async function openBench({ auth = true } = {}): Promise<Bench> {
  await using opening = new AsyncDisposableStack();
  const { path } = opening.use(await openRunFolder());
  const registry = opening.use(await openRegistry({ kind: "embedded", file: join(path, "registry.db") }));
  const models = new Map<string, Model>();
  const fleet = createFleet({ onCopies: (podId, changes) => quotas.onCopies(podId, changes), onPod: () => undefined });
  const owners: [string, Record<string, string>][] = [];
  const trims: [string, string, number][] = [];
  const over: QuotaName[] = [];
  const bench = { nowMs: 0, rules: undefined as QuotaRules | undefined };
  const quotas = opening.use(
    await openQuotas(
      {
        registry,
        fleet,
        auth,
        log: silentLog,
        clock: { monotonicMs: () => bench.nowMs },
        table: {
          setQuotas(rules) {
            bench.rules = rules;
          },
        },
        findModel: (name) => models.get(name),
        sendOwners: (podId, told) => void owners.push([podId, Object.fromEntries(told)]),
        sendTrim: (...trim) => void trims.push(trim),
        isHome: () => true,
        onOver: (quota) => void over.push(quota),
      },
      new AbortController().signal,
    ),
  );
  const parts = opening.move();
  return Object.assign(bench, {
    registry,
    fleet,
    quotas,
    models,
    owners,
    trims,
    over,
    async set(name: string, quota: unknown) {
      const was = bench.rules;
      await registry.put(quotaPrefix + name, JSON.stringify(quota));
      await waitFor(() => bench.rules !== was);
    },
    hold(podId: string, model: string, state: CopyChange["state"], sizeBytes = 10) {
      fleet.change(podId, [{ model, revision: "r", slot: 0, state, sizeBytes }]);
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  });
}

const pod = (podId: string): PodInfo => ({
  podId,
  incarnation: podId,
  runtime: "onnx",
  capacityBytes: 1_000,
  rest: { host: "127.0.0.1", port: 1 },
  grpc: { host: "127.0.0.1", port: 2 },
  labels: {},
  formats: ["onnx"],
});

function model(name: string, tenant?: string): Model {
  const revisions = [{ id: "r", slot: 0, format: "onnx", storageUri: "file:///m" }];
  const parsed = parseModel({ name, revisions, active: "r", ...(tenant === undefined ? {} : { tenant }) });
  assert.ok(parsed.kind === "ok");
  return parsed.model;
}

test("waits are counted and given back, once", async () => {
  await using bench = await openBench();
  await bench.set("a", { tenants: ["a"], parkedRequests: 1 });
  const first = bench.quotas.park("a");
  assert.equal(first.kind, "held");
  const second = bench.quotas.park("a");
  assert.ok(second.kind === "failed" && second.code === "quota-exceeded" && second.retryAfterMs === 1_000);
  assert.equal(bench.quotas.park("b").kind, "held");
  if (first.kind === "held") {
    first.release();
    first.release();
  }
  assert.equal(bench.quotas.park("a").kind, "held");
  assert.equal(bench.quotas.park("a").kind, "failed");
  assert.deepEqual(bench.over, ["parked", "parked"]);
});

test("a load that nobody waits for any longer counts until no pod works on it", async () => {
  await using bench = await openBench();
  await bench.set("a", { tenants: ["a"], loadsUnderWay: 1 });
  bench.fleet.attach(pod("p"), []);
  const load = bench.quotas.startLoad("a", { model: "m", revision: "r" });
  bench.hold("p", "m", "loading");
  assert.ok(load.kind === "held");
  load.release();
  assert.equal(bench.quotas.startLoad("a", { model: "n", revision: "r" }).kind, "failed");
  bench.hold("p", "m", "ready");
  assert.equal(bench.quotas.startLoad("a", { model: "n", revision: "r" }).kind, "held");
  assert.equal(bench.quotas.use().find(({ tenant }) => tenant === "a")?.loadsUnderWay, 1);
});

test("loads of a minute come back with time, and nothing is kept of who has nothing in hand", async () => {
  await using bench = await openBench();
  await bench.set("a", { tenants: ["authenticated"], loadsPerMinute: 2 });
  const load = (): string => {
    const taken = bench.quotas.startLoad("a", { model: "m", revision: "r" });
    if (taken.kind === "held") taken.release();
    return taken.kind;
  };
  assert.deepEqual([load(), load(), load()], ["held", "held", "failed"]);
  bench.nowMs = 30_000;
  assert.deepEqual([load(), load()], ["held", "failed"]);
  bench.nowMs = 600_000;
  await bench.set("b", { tenants: ["b"] });
  assert.deepEqual(bench.quotas.use(), []);
});

test("warm bytes: pods hear whose copies are, what a load may take, and who has too much", async () => {
  await using bench = await openBench();
  for (const [name, tenant] of [
    ["m", "a"],
    ["n", "a"],
    ["o", "b"],
  ] as const)
    bench.models.set(name, model(name, tenant));
  for (const podId of ["p", "q"]) bench.fleet.attach(pod(podId), []);
  bench.hold("p", "m", "ready", 30);
  bench.hold("q", "n", "ready", 20);
  bench.hold("q", "o", "ready", 20);
  assert.deepEqual(bench.quotas.termsOf("p", "m"), {});
  await bench.set("a", { tenants: ["a"], warmBytes: 60 });
  assert.deepEqual(bench.owners, [
    ["p", { m: "a" }],
    ["q", { n: "a", o: "b" }],
  ]);
  assert.deepEqual(bench.quotas.termsOf("p", "m"), { tenant: "a", tenantBytes: 40 });
  assert.deepEqual(bench.quotas.termsOf("q", "o"), { tenant: "b", tenantBytes: undefined });
  bench.quotas.tick();
  assert.deepEqual(bench.trims, []);

  // A pod without anything of the tenant is of no use to one that has all that it may have.
  bench.fleet.attach(pod("empty"), []);
  const { revisions } = model("m");
  assert.deepEqual([...bench.quotas.avoided("m", { ...revisions[0]!, sizeHintBytes: 10 }).keys()], []);
  assert.deepEqual([...bench.quotas.avoided("m", { ...revisions[0]!, sizeHintBytes: 25 }).keys()], ["empty"]);

  bench.models.set("o", model("o", "a"));
  bench.quotas.onModel("o");
  assert.deepEqual(bench.owners.at(-1), ["q", { o: "a" }]);
  bench.quotas.tick();
  assert.deepEqual(bench.trims, [["q", "a", 30]]);
});

test("requests count against who calls, or against whose the model is where nobody proves anything", async () => {
  await using proved = await openBench();
  const own = model("m", "owner");
  assert.equal(proved.quotas.tenantOf("cert:a", own), "a");
  assert.equal(proved.quotas.tenantOf(undefined, own), "-");
  assert.equal(proved.quotas.tenantOf("a,b", own), "-");
  await using open = await openBench({ auth: false });
  assert.equal(open.quotas.tenantOf(undefined, own), "owner");
  assert.equal(open.quotas.tenantOf(undefined, model("m")), "-");
});
