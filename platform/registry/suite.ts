// The registry's behaviour, held against every implementation.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { waitFor } from "../testing.ts";
import { putAll } from "./open.ts";
import type { Change, Page, PutResult, Registry, WatchBatch } from "./registry.ts";
import { maxKeyLength, maxPageLimit, maxPutMany, maxValueBytes } from "./registry.ts";

export interface Implementation {
  readonly name: string;
  /** Opens a registry on this store; the same one again for the same `store`, empty for a new one. */
  readonly open: (store: string) => Promise<Registry>;
  /** Makes watchers from the store's first revisions see "compacted". */
  readonly compact: (registry: Registry) => Promise<void>;
}

let stores = 0;

export function describeRegistry({ name, open, compact }: Implementation): void {
  const newStore = (): string => `store-${(stores += 1)}`;

  describe(`${name} registry`, () => {
    test("put, get and delete, each with a later revision", async () => {
      await using registry = await open(newStore());
      assert.equal(await registry.get("/a"), undefined);
      const first = revisionOf(await registry.put("/a", "1"));
      const second = revisionOf(await registry.put("/a", "2"));
      assert.ok(second > first);
      assert.deepEqual(await registry.get("/a"), { key: "/a", value: "2", revision: second });
      const gone = await registry.delete("/a");
      assert.ok(gone.kind === "ok" && gone.revision > second);
      assert.equal(await registry.get("/a"), undefined);
      assert.equal((await registry.delete("/a")).kind, "ok");
    });

    test("what was expected must be there", async () => {
      await using registry = await open(newStore());
      const revision = revisionOf(await registry.put("/a", "1", { expect: "absent" }));
      const current = { key: "/a", value: "1", revision };
      assert.deepEqual(await registry.put("/a", "2", { expect: "absent" }), { kind: "conflict", current });
      assert.deepEqual(await registry.put("/a", "2", { expect: revision + 7 }), { kind: "conflict", current });
      assert.deepEqual(await registry.put("/b", "2", { expect: revision }), { kind: "conflict", current: undefined });
      assert.deepEqual(await registry.delete("/a", { expect: revision + 7 }), { kind: "conflict", current });
      const next = revisionOf(await registry.put("/a", "2", { expect: revision }));
      assert.equal((await registry.delete("/a", { expect: next })).kind, "ok");
      assert.deepEqual(await registry.delete("/a", { expect: next }), { kind: "conflict", current: undefined });
    });

    test("values of up to 64 KiB in any script; keys are checked", async () => {
      await using registry = await open(newStore());
      const value = "ü".repeat(maxValueBytes / 2);
      revisionOf(await registry.put("/a", value));
      assert.equal((await registry.get("/a"))?.value, value);
      assert.deepEqual(await registry.put("/a", `${value}x`), { kind: "too large", limitBytes: maxValueBytes });
      const many = await registry.putMany([
        { key: "/b", value: "1" },
        { key: "/c", value: `${value}x` },
      ]);
      assert.deepEqual(many, { kind: "too large", key: "/c", limitBytes: maxValueBytes });
      assert.equal(await registry.get("/b"), undefined);
      for (const key of ["", "a", "/ü", "/a\n", `/${"a".repeat(maxKeyLength)}`])
        await assert.rejects(registry.put(key, ""), RangeError);
    });

    test("lists a prefix in pages, in the order of the keys", async () => {
      await using registry = await open(newStore());
      const keys = Array.from({ length: 25 }, (_, at) => `/models/m${String(at).padStart(2, "0")}`);
      await putAll(
        registry,
        [...keys].reverse().map((key) => ({ key, value: key })),
      );
      for (const key of ["/models", "/models.x", "/models0", "/pods/a"]) await registry.put(key, "other");
      const seen: string[] = [];
      let page: Page | undefined;
      do {
        page = await registry.list("/models/", { after: page?.entries.at(-1)?.key, limit: 10 });
        seen.push(...page.entries.map((entry) => entry.key));
      } while (page.more);
      assert.deepEqual(seen, keys);
      assert.deepEqual((await registry.list("/models/", { limit: 25 })).more, false);
      assert.deepEqual((await registry.list("/none/", { limit: 10 })).entries, []);
    });

    test("10,000 entries in parts, and all of them in one page", async () => {
      await using registry = await open(newStore());
      const entries = Array.from({ length: 10_000 }, (_, at) => ({
        key: `/models/m${at}`,
        value: JSON.stringify({ at, pad: "x".repeat(200) }),
      }));
      assert.equal((await putAll(registry, entries)).kind, "ok");
      assert.equal((await registry.list("/models/", { limit: 10_000 })).entries.length, 10_000);
    });

    test("a watch tells every later change of its prefix in order, past ones first", async () => {
      await using registry = await open(newStore());
      const start = revisionOf(await registry.put("/m/old", "0"));
      await registry.put("/m/a", "1");
      await registry.put("/other", "x");
      await using watcher = watchInto(registry, "/m/", start);
      await waitFor(() => watcher.changes.length === 1);
      await registry.put("/m/b", "2");
      await registry.delete("/m/a");
      await registry.put("/m/a", "3");
      await waitFor(() => watcher.changes.some((change) => change.type === "put" && change.value === "3"));
      const revisions = watcher.changes.map((change) => change.revision);
      assert.deepEqual(
        revisions,
        [...revisions].sort((a, b) => a - b),
      );
      assert.deepEqual(replay(watcher.changes), { "/m/a": "3", "/m/b": "2" });
      assert.ok(watcher.changes.every((change) => change.key.startsWith("/m/")));
    });

    test("list and watch together miss nothing while others write", async () => {
      const store = newStore();
      await using registry = await open(store);
      await using other = await open(store);
      await putAll(
        registry,
        Array.from({ length: 300 }, (_, at) => ({ key: `/m/${at}`, value: "0" })),
      );
      const state = new Map<string, string>();
      const first = await registry.list("/m/", { limit: 100 });
      for (const { key, value } of first.entries) state.set(key, value);
      let after = first.entries.at(-1)?.key;
      for (let round = 0; after !== undefined; round += 1) {
        const writer = round % 2 === 0 ? registry : other;
        await writer.put(`/m/${round * 7}`, `changed ${round}`);
        await writer.delete(`/m/${round * 11 + 1}`);
        const page = await registry.list("/m/", { after, limit: 100 });
        for (const { key, value } of page.entries) state.set(key, value);
        after = page.more ? page.entries.at(-1)?.key : undefined;
      }
      await using watcher = watchInto(registry, "/m/", first.revision);
      await other.put("/m/last", "end");
      await waitFor(() => watcher.changes.some((change) => change.key === "/m/last"));
      for (const change of watcher.changes) {
        if (change.type === "put") state.set(change.key, change.value);
        else state.delete(change.key);
      }
      const truth = await registry.list("/m/", { limit: 10_000 });
      assert.deepEqual(Object.fromEntries(state), Object.fromEntries(truth.entries.map(({ key, value }) => [key, value])));
    });

    test("what is put together comes together, and more than goes together is refused", async () => {
      await using registry = await open(newStore());
      await using watcher = watchInto(registry, "/m/", await revisionNow(registry));
      const together = Array.from({ length: maxPutMany }, (_, at) => ({ key: `/m/${at}`, value: "1" }));
      const put = await registry.putMany([...together.slice(1), { key: "/m/1", value: "twice" }]);
      await waitFor(() => watcher.changes.length >= maxPutMany - 1);
      assert.equal((await registry.get("/m/1"))?.value, "twice");
      assert.ok(put.kind === "ok" && watcher.changes.every(({ revision }) => revision <= put.revision));
      await assert.rejects(registry.putMany([...together, { key: "/m/more", value: "1" }]), RangeError);
      const large = "x".repeat(maxValueBytes);
      await assert.rejects(registry.putMany(together.slice(0, 17).map(({ key }) => ({ key, value: large }))), RangeError);
      assert.equal(
        (
          await putAll(
            registry,
            together.map(({ key }) => ({ key, value: large })),
          )
        ).kind,
        "ok",
      );
      assert.equal((await registry.list("/m/", { limit: maxPageLimit })).entries.length, maxPutMany);
    });

    test("pages after the first are as of the first, or newer", async () => {
      await using registry = await open(newStore());
      for (const key of ["/m/a", "/m/b", "/m/c"]) await registry.put(key, "1");
      const first = await registry.list("/m/", { limit: 1 });
      await registry.delete("/m/b");
      const second = await registry.list("/m/", { limit: 10, after: "/m/a", at: first.revision });
      assert.ok(second.revision >= first.revision);
      assert.equal(second.storeId, first.storeId);
      const keys = second.entries.map(({ key }) => key);
      assert.deepEqual(keys, second.revision === first.revision ? ["/m/b", "/m/c"] : ["/m/c"]);
    });

    test("a store has a name of its own, the same for all who open it", async () => {
      const store = newStore();
      await using one = await open(store);
      await using other = await open(store);
      await using stranger = await open(newStore());
      const nameOf = async (registry: Registry): Promise<string> => (await registry.list("/", { limit: 1 })).storeId;
      const [name, same] = await Promise.all([nameOf(one), nameOf(other)]);
      assert.equal(name, same);
      assert.notEqual(name, await nameOf(stranger));
      assert.deepEqual((await one.list("/", { limit: 1 })).entries, []);
    });

    test("many changes reach a watcher whole", async () => {
      await using registry = await open(newStore());
      await using watcher = watchInto(registry, "/m/", await revisionNow(registry));
      await putAll(
        registry,
        Array.from({ length: 5_000 }, (_, at) => ({ key: `/m/${at}`, value: String(at) })),
      );
      await waitFor(() => watcher.changes.length === 5_000, { timeoutMs: 30_000 });
    });

    test("a watch ends when its signal is aborted, and when the registry is closed", async () => {
      const registry = await open(newStore());
      const now = await revisionNow(registry);
      const stop = new AbortController();
      const one = collect(registry.watch("/", now, stop.signal));
      const two = collect(registry.watch("/", now, new AbortController().signal));
      stop.abort();
      assert.deepEqual(await one, []);
      await registry[Symbol.asyncDispose]();
      assert.deepEqual(await two, []);
    });

    test("a watch from a forgotten revision says so and ends", async () => {
      await using registry = await open(newStore());
      const start = revisionOf(await registry.put("/m/a", "1"));
      await compact(registry);
      assert.deepEqual(await collect(registry.watch("/m/", start, AbortSignal.timeout(5_000))), [{ kind: "compacted" }]);
      const page = await registry.list("/m/", { limit: 10 });
      await using watcher = watchInto(registry, "/m/", page.revision);
      await registry.put("/m/b", "2");
      await waitFor(() => watcher.changes.length === 1);
    });

    test("a watch from a revision of the future says compacted: the store is another one", async () => {
      await using registry = await open(newStore());
      assert.deepEqual(
        await collect(registry.watch("/", (await revisionNow(registry)) + 1_000_000, AbortSignal.timeout(5_000))),
        [{ kind: "compacted" }],
      );
    });

    test("entries of a lease stay while it is kept and vanish at its close", async () => {
      await using registry = await open(newStore());
      const lease = await registry.openLease(1_500);
      revisionOf(await registry.put("/pods/a", "here", { lease }));
      await using watcher = watchInto(registry, "/pods/", (await revisionNow(registry)) - 1);
      const untilMs = performance.now() + 3_200;
      await waitFor(() => performance.now() > untilMs);
      assert.equal((await registry.get("/pods/a"))?.value, "here");
      assert.ok(lease.held());
      await lease[Symbol.asyncDispose]();
      assert.equal(lease.held(), false);
      assert.ok(lease.ended.aborted);
      await waitFor(() => watcher.changes.at(-1)?.type === "delete");
      assert.equal(await registry.get("/pods/a"), undefined);
      assert.deepEqual(await registry.put("/pods/a", "again", { lease }), { kind: "lease ended" });
    });

    test("a put without lease takes the entry out of the lease", async () => {
      await using registry = await open(newStore());
      const lease = await registry.openLease(300);
      await registry.put("/pods/a", "leased", { lease });
      await registry.put("/pods/a", "lasting");
      await lease[Symbol.asyncDispose]();
      assert.equal((await registry.get("/pods/a"))?.value, "lasting");
    });

    test("closing the registry ends its leases; others on the store see it and keep the rest", async () => {
      const store = newStore();
      await using stays = await open(store);
      const leaves = await open(store);
      const start = await revisionNow(stays);
      const lease = await leaves.openLease(60_000);
      await leaves.put("/pods/a", "1", { lease });
      await leaves.put("/models/a", "1");
      await using watcher = watchInto(stays, "/", start);
      await waitFor(() => watcher.changes.length === 2);
      await leaves[Symbol.asyncDispose]();
      await waitFor(() => watcher.changes.some((change) => change.type === "delete" && change.key === "/pods/a"));
      assert.equal((await stays.get("/models/a"))?.value, "1");
    });

    test("what was written is there after a restart, at the same revisions", async () => {
      const store = newStore();
      const before = await open(store);
      const revision = revisionOf(await before.put("/a", "1"));
      await before[Symbol.asyncDispose]();
      await using again = await open(store);
      assert.deepEqual(await again.get("/a"), { key: "/a", value: "1", revision });
      assert.ok(revisionOf(await again.put("/a", "2")) > revision);
    });
  });
}

function revisionOf(result: PutResult): number {
  assert.equal(result.kind, "ok");
  return result.kind === "ok" ? result.revision : 0;
}

async function revisionNow(registry: Registry): Promise<number> {
  return (await registry.list("/", { limit: 1 })).revision;
}

function replay(changes: readonly Change[]): Record<string, string> {
  const state: Record<string, string> = {};
  for (const change of changes) {
    if (change.type === "put") state[change.key] = change.value;
    else delete state[change.key];
  }
  return state;
}

interface Watcher extends AsyncDisposable {
  readonly changes: Change[];
}

function watchInto(registry: Registry, prefix: string, revision: number): Watcher {
  const stop = new AbortController();
  const changes: Change[] = [];
  const run = async (): Promise<void> => {
    for await (const batch of registry.watch(prefix, revision, stop.signal)) {
      if (batch.kind === "changes") changes.push(...batch.changes);
    }
  };
  const running = run();
  return {
    changes,
    async [Symbol.asyncDispose](): Promise<void> {
      stop.abort();
      await running;
    },
  };
}

async function collect(batches: AsyncIterable<WatchBatch>): Promise<readonly WatchBatch[]> {
  const all: WatchBatch[] = [];
  for await (const batch of batches) all.push(batch);
  return all;
}
