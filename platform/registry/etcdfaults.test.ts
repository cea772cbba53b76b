// What a real etcd does to its clients: dies, freezes, forgets, comes back empty; and what gateways make of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createEtcdClient, type EtcdServer, openEtcd } from "#test/harness/etcd.ts";
import { silentLog } from "../log.ts";
import { createRecordingLog, waitFor } from "../testing.ts";
import { runFollow } from "./follow.ts";
import { openModelIndex } from "./modelindex.ts";
import { openRegistry, putAll } from "./open.ts";
import { runPodWatch, runPresence } from "./presence.ts";
import { modelKey, putModel, putModels } from "./records.ts";
import { type Change, maxPageLimit, maxValueBytes, type Page, type Registry } from "./registry.ts";
import { parseRegistryTarget } from "./target.ts";

const patient = { timeoutMs: 60_000 };
const unavailable = { name: "WarmpathError", code: "registry-unavailable" };

async function open(server: EtcdServer, prefix = "/test"): Promise<Registry> {
  return await openRegistry(parseRegistryTarget({ registry: `etcd://${server.address}${prefix}` }), silentLog);
}

function buildModel(name: string): Parameters<typeof putModel>[1] {
  return { name, revisions: [{ id: "r1", slot: 0, format: "onnx", storageUri: `file:///${name}.onnx` }], active: "r1" } as never;
}

function watchAll(registry: Registry, revision: number): { readonly changes: Change[]; readonly stop: AbortController } {
  const stop = new AbortController();
  const changes: Change[] = [];
  void (async () => {
    for await (const batch of registry.watch("/", revision, stop.signal))
      if (batch.kind === "changes") changes.push(...batch.changes);
  })();
  return { changes, stop };
}

async function tookMs(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

test("etcd is killed: calls fail at once and by name, a watch goes on where it was, what was written stays", async () => {
  await using server = await openEtcd();
  await using registry = await open(server);
  const put = await registry.put("/a", "1");
  assert.ok(put.kind === "ok");
  const { changes, stop } = watchAll(registry, put.revision);
  await registry.put("/b", "2");
  await waitFor(() => changes.length === 1, patient);
  await server.kill();
  for (const call of [
    () => registry.get("/a"),
    () => registry.list("/", { limit: 10 }),
    () => registry.put("/a", "2"),
    () => registry.putMany([{ key: "/a", value: "2" }]),
    () => registry.delete("/a"),
    () => registry.openLease(5_000),
  ]) {
    // Nobody listens there: no deadline has to pass.
    assert.ok((await tookMs(() => assert.rejects(call(), unavailable))) < 2_500);
  }
  await server.start();
  await waitFor(async () => (await registry.get("/a").catch(() => undefined))?.value === "1", patient);
  await registry.put("/c", "3");
  await waitFor(() => changes.length === 2, patient);
  assert.deepEqual(
    changes.map(({ key }) => key),
    ["/b", "/c"],
  );
  stop.abort();
});

test("etcd is frozen: calls end at their deadline, a lease is not believed in for longer than it was given, all goes on later", async () => {
  await using server = await openEtcd();
  await using registry = await open(server);
  const put = await registry.put("/a", "1");
  assert.ok(put.kind === "ok");
  const { changes, stop } = watchAll(registry, put.revision);
  const lease = await registry.openLease(2_000);
  await registry.put("/pods/a", "here", { lease });
  await server.freeze();
  const frozenMs = performance.now();
  await assert.rejects(registry.get("/a"), unavailable);
  await assert.rejects(registry.put("/a", "2"), unavailable);
  assert.ok(performance.now() - frozenMs < 30_000);
  await waitFor(() => lease.ended.aborted, patient);
  assert.equal(lease.held(), false);
  assert.deepEqual(await registry.put("/pods/a", "still here", { lease }), { kind: "lease ended" });
  server.thaw();
  await waitFor(async () => (await registry.get("/a").catch(() => undefined)) !== undefined, patient);
  await registry.put("/b", "2");
  await waitFor(() => changes.some(({ key }) => key === "/b"), patient);
  stop.abort();
});

test("closing a registry does not wait for an etcd that is away", async () => {
  await using server = await openEtcd();
  const registry = await open(server);
  await registry.openLease(60_000);
  await server.freeze();
  assert.ok((await tookMs(async () => await registry[Symbol.asyncDispose]())) < 15_000);
});

test("a lease that etcd has revoked is told, and nothing is written under it", async () => {
  await using server = await openEtcd();
  using etcd = createEtcdClient(server);
  await using registry = await open(server);
  const lease = await registry.openLease(3_000);
  await etcd.leaseClient.leaseRevoke({ ID: lease.id });
  assert.deepEqual(await registry.put("/pods/a", "here", { lease }), { kind: "lease ended" });
  await waitFor(() => lease.ended.aborted, patient);
});

test("a follower that was away while etcd compacted lists again", async () => {
  await using server = await openEtcd();
  using etcd = createEtcdClient(server);
  await using registry = await open(server);
  const state = new Map<string, string>();
  let lists = 0;
  const stop = new AbortController();
  const following = runFollow(
    registry,
    "/m/",
    {
      put: (key, value) => void state.set(key, value),
      delete: (key) => void state.delete(key),
      keys: () => state.keys(),
      synced: () => void (lists += 1),
      onError: () => undefined,
    },
    stop.signal,
  );
  await registry.put("/m/old", "1");
  await waitFor(() => state.has("/m/old"), patient);
  // The follower is cut off, and others go on: etcd is started anew with a history that it does not know.
  await server.kill();
  await server.start();
  await registry.delete("/m/old");
  for (let at = 0; at < 20; at += 1) await registry.put("/m/new", String(at));
  const { header } = await etcd.kv.range({ key: Buffer.from("x") });
  await etcd.kv.compact({ revision: header.revision, physical: true });
  await server.kill();
  await server.start();
  await waitFor(() => state.get("/m/new") === "19" && !state.has("/m/old"), patient);
  stop.abort();
  await following;
  assert.ok(lists >= 1);
});

test("values of 20 MiB together come in one page, and calls beside it are not held up", async () => {
  await using server = await openEtcd();
  await using registry = await open(server);
  const value = "x".repeat(maxValueBytes);
  const { revision } = await registry.list("/", { limit: 1 });
  await putAll(
    registry,
    Array.from({ length: 320 }, (_, at) => ({ key: `/m/${at}`, value })),
  );
  const [page, one] = await Promise.all([registry.list("/m/", { limit: 1_000 }), registry.get("/m/7")]);
  assert.equal(page.entries.length, 320);
  assert.equal(one?.value.length, maxValueBytes);
  // And as changes.
  const { changes, stop } = watchAll(registry, revision);
  await waitFor(() => changes.length === 320, patient);
  stop.abort();
});

test("large values behind small ones, more than go in an answer: they come in smaller parts, and in pages that fit in memory", async () => {
  await using server = await openEtcd();
  await using registry = await open(server);
  const small = 2_000;
  const large = 4_300;
  const nameAt = (at: number): string => `/m/${String(at).padStart(5, "0")}`;
  const value = "x".repeat(maxValueBytes);
  await putAll(
    registry,
    Array.from({ length: small + large }, (_, at) => ({ key: nameAt(at), value: at < small ? "small" : value })),
  );
  const seen: string[] = [];
  const pages: Page[] = [];
  let page: Page | undefined;
  do {
    page = await registry.list("/m/", { after: seen.at(-1), limit: maxPageLimit, at: page?.revision });
    for (const { key, value: found } of page.entries) {
      assert.equal(found.length, seen.length < small ? 5 : maxValueBytes);
      seen.push(key);
    }
    pages.push({ ...page, entries: [] });
    assert.ok(page.entries.length <= small + 2_000, `${page.entries.length} entries in a page`);
  } while (page.more);
  assert.deepEqual(
    seen,
    Array.from({ length: small + large }, (_, at) => nameAt(at)),
  );
  assert.equal(new Set(pages.map(({ revision }) => revision)).size, 1);
});

test("100,000 models are known after one pass in pages of one revision", async (context) => {
  await using server = await openEtcd();
  await using registry = await open(server);
  const models = Array.from({ length: 100_000 }, (_, at) => buildModel(`model-${at}`));
  assert.equal((await putModels(registry, models)).kind, "ok");
  const startMs = performance.now();
  await using index = openModelIndex(registry);
  await index.synced;
  context.diagnostic(`100,000 models listed in ${(performance.now() - startMs).toFixed(0)} ms`);
  assert.equal(index.count, 100_000);
  assert.equal(index.get("model-77777")?.active, "r1");
});

test("a transaction that two members of a fleet try at once is done by one", async () => {
  await using server = await openEtcd();
  const registries = await Promise.all(Array.from({ length: 4 }, () => open(server)));
  const results = await Promise.all(registries.map((registry, at) => registry.put("/m/a", `by ${at}`, { expect: "absent" })));
  assert.deepEqual(results.map(({ kind }) => kind).sort(), ["conflict", "conflict", "conflict", "ok"]);
  await Promise.all(registries.map((registry) => registry[Symbol.asyncDispose]()));
});

test("presence outlives an etcd that was down for longer than the lease", async () => {
  await using server = await openEtcd();
  await using registry = await open(server);
  const log = createRecordingLog();
  const seen: string[] = [];
  const stop = new AbortController();
  const pod = { podId: "p1", incarnation: "1", linkAddress: "127.0.0.1:1", runtime: "onnx" };
  const watching = runPodWatch(
    registry,
    { onPod: ({ podId }) => seen.push(podId), onGone: (podId) => seen.push(`${podId} gone`) },
    log,
    stop.signal,
  );
  const presence = runPresence(registry, pod, { ttlMs: 2_000, log }, stop.signal);
  await waitFor(() => seen.length === 1, patient);
  await server.kill();
  await waitFor(() => log.lines.some(({ message }) => message.includes("lease was lost")), patient);
  await server.start();
  const announced = log.lines.length;
  await waitFor(async () => (await registry.get("/pods/p1").catch(() => undefined))?.value !== undefined, patient);
  // Under a lease that holds: the old one has long ended.
  const untilMs = performance.now() + 5_000;
  await waitFor(() => performance.now() > untilMs, patient);
  assert.notEqual(await registry.get("/pods/p1"), undefined);
  stop.abort();
  await Promise.all([watching, presence]);
  assert.ok(log.lines.length >= announced);
});

test("etcd comes back empty: models stay known and are said to be missing, until they are restored", async () => {
  await using server = await openEtcd();
  await using registry = await open(server);
  const log = createRecordingLog();
  await putModels(
    registry,
    Array.from({ length: 250 }, (_, at) => buildModel(`m${at}`)),
  );
  await using index = openModelIndex(registry, { log });
  await using other = openModelIndex(registry);
  await Promise.all([index.synced, other.synced]);
  await server.kill();
  server.loseData();
  await server.start();
  await waitFor(() => index.missing === 250 && other.missing === 250, patient);
  assert.equal(index.count, 250);
  assert.equal(index.get("m7")?.name, "m7");
  assert.deepEqual((await index.names({ limit: 3 })).names, ["m0", "m1", "m10"]);
  assert.ok(log.lines.some(({ level, message }) => level === "error" && message.includes("came back without models")));
  // Somebody registers one of them again, with other content: that is the truth for everybody.
  const changed = { ...buildModel("m1"), priority: 7 } as never;
  assert.equal((await putModel(registry, changed, "absent")).kind, "ok");
  await waitFor(() => index.missing === 249 && other.missing === 249, patient);
  assert.equal(await index.restore(), 249);
  await waitFor(() => index.missing === 0 && other.missing === 0, patient);
  assert.equal((await registry.get(modelKey("m1")))?.value, JSON.stringify(changed));
  // From here on a deletion is one.
  await registry.delete(modelKey("m2"));
  await waitFor(() => !index.has("m2") && !other.has("m2"), patient);
  await using late = openModelIndex(registry);
  await late.synced;
  assert.equal(late.count, 249);
});

test("etcd comes back with all models under another name: that is no loss", async () => {
  await using server = await openEtcd();
  await using registry = await open(server);
  const models = [buildModel("a"), buildModel("b")];
  await putModels(registry, models);
  await using index = openModelIndex(registry);
  await index.synced;
  await server.kill();
  server.loseData();
  await server.start();
  await waitFor(() => index.missing === 2, patient);
  await putModels(registry, models);
  await waitFor(() => index.missing === 0, patient);
  assert.equal(index.count, 2);
});

test("an etcd that is only started again takes nothing for lost, whatever was deleted meanwhile", async () => {
  await using server = await openEtcd();
  await using registry = await open(server);
  await using writer = await open(server);
  await putModels(registry, [buildModel("a"), buildModel("b")]);
  await using index = openModelIndex(registry);
  await index.synced;
  await server.kill();
  await server.start();
  await waitFor(async () => (await writer.delete(modelKey("a")).catch(() => undefined))?.kind === "ok", patient);
  await waitFor(() => !index.has("a"), patient);
  assert.equal(index.missing, 0);
});
