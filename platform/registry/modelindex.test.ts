import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { type Model, parseModel } from "#core/model.ts";
import { openRunFolder } from "../tempdir.ts";
import { createRecordingLog, waitFor } from "../testing.ts";
import { openEmbeddedRegistry } from "./embedded.ts";
import { openModelIndex } from "./modelindex.ts";
import { runGatewayPresence, runGatewayWatch, runPodWatch, runPresence } from "./presence.ts";
import { deleteModel, gatewayKey, getModel, modelKey, type PodPresence, parsePodRecord, putModel, putModels } from "./records.ts";
import type { Registry } from "./registry.ts";

const folder = await openRunFolder();
after(() => folder[Symbol.asyncDispose]());

let stores = 0;
const openEmpty = (keepDeletions = 10): Promise<Registry> =>
  openEmbeddedRegistry({ file: join(folder.path, `${(stores += 1)}.db`), keepDeletions });

function buildModel(name: string, storageUri = `file:/models/${name}`): Model {
  const parsed = parseModel({ name, active: "1", revisions: [{ id: "1", slot: 0, format: "onnx", storageUri }] });
  assert.ok(parsed.kind === "ok", JSON.stringify(parsed));
  return parsed.model;
}

test("holds what is registered and follows every change", async () => {
  await using registry = await openEmpty();
  await putModels(
    registry,
    Array.from({ length: 5_000 }, (_, at) => buildModel(`m${at}`)),
  );
  await using index = openModelIndex(registry, { keepParsed: 10 });
  await index.synced;
  assert.equal(index.count, 5_000);
  assert.deepEqual(index.get("m42"), buildModel("m42"));
  assert.equal(index.get("unknown"), undefined);
  const changed: string[] = [];
  using _listening = index.onChange((name) => changed.push(name));
  await putModel(registry, buildModel("m42", "file:/elsewhere"));
  await deleteModel(registry, "m43");
  await putModel(registry, buildModel("new"));
  await putModel(registry, buildModel("m44"));
  await waitFor(() => index.has("new"));
  assert.equal(index.get("m42")?.revisions[0]?.storageUri, "file:/elsewhere");
  assert.equal(index.get("m43"), undefined);
  assert.equal(index.count, 5_000);
  assert.deepEqual(changed, ["m42", "m43", "new"], "a rewrite with the same text is no change");
  for (let at = 100; at < 200; at += 1) assert.equal(index.get(`m${at}`)?.name, `m${at}`);
});

test("names come in pages, sorted", async () => {
  await using registry = await openEmpty();
  await putModels(
    registry,
    ["b", "c", "a", "B"].map((name) => buildModel(name)),
  );
  await using index = openModelIndex(registry);
  assert.deepEqual(await index.names({ limit: 3 }), { names: ["B", "a", "b"], more: true });
  assert.deepEqual(await index.names({ after: "b", limit: 3 }), { names: ["c"], more: false });
});

test("forgets what was deleted while it could not watch", async () => {
  await using registry = await openEmpty(2);
  await putModels(
    registry,
    Array.from({ length: 100 }, (_, at) => buildModel(`m${at}`)),
  );
  await using index = openModelIndex(registry);
  await index.synced;
  // More deletions in one turn than are remembered: the watch finds its place gone and lists again.
  await Promise.all(Array.from({ length: 60 }, (_, at) => deleteModel(registry, `m${at}`)));
  await waitFor(() => index.count === 40);
  assert.equal(index.get("m10"), undefined);
  await putModel(registry, buildModel("after"));
  await waitFor(() => index.get("after"));
});

test("a malformed record is told once and counts as not registered, until it is repaired", async () => {
  await using registry = await openEmpty();
  const log = createRecordingLog();
  await registry.put(modelKey("broken"), "{");
  await registry.put(modelKey("liar"), JSON.stringify(buildModel("other")));
  await using index = openModelIndex(registry, { log });
  await index.synced;
  for (const name of ["broken", "broken", "liar"]) assert.equal(index.get(name), undefined);
  assert.deepEqual(
    log.lines.map(({ level, keys }) => [level, keys["model"]]),
    [
      ["error", "broken"],
      ["error", "liar"],
    ],
  );
  await putModel(registry, buildModel("broken"));
  assert.equal((await waitFor(() => index.get("broken"))).name, "broken");
});

test("a closed index rejects who waits for it", async () => {
  await using registry = await openEmpty();
  const index = openModelIndex(registry);
  await index[Symbol.asyncDispose]();
  await assert.rejects(index.synced);
});

test("models are read back with the revision to expect", async () => {
  await using registry = await openEmpty();
  const first = await putModel(registry, buildModel("a"), "absent");
  assert.equal((await putModel(registry, buildModel("a"), "absent")).kind, "conflict");
  const stored = await getModel(registry, "a");
  assert.ok(stored !== undefined && first.kind === "ok");
  assert.deepEqual(stored, { model: buildModel("a"), revision: first.revision });
  assert.equal((await deleteModel(registry, "a", stored.revision + 1)).kind, "conflict");
  assert.equal((await deleteModel(registry, "a", stored.revision)).kind, "ok");
  assert.equal(await getModel(registry, "a"), undefined);
});

test("a pod is seen while it is announced, and no longer", async () => {
  await using registry = await openEmpty();
  const log = createRecordingLog();
  const pod: PodPresence = { podId: "p1", incarnation: "1", linkAddress: "unix:/tmp/p1", runtime: "onnx" };
  const seen: string[] = [];
  const watching = new AbortController();
  const watch = runPodWatch(
    registry,
    { onPod: ({ podId, incarnation }) => seen.push(`${podId} ${incarnation}`), onGone: (podId) => seen.push(`${podId} gone`) },
    log,
    watching.signal,
  );
  for (const incarnation of ["1", "2"]) {
    const announced = new AbortController();
    const presence = runPresence(registry, { ...pod, incarnation }, { ttlMs: 1_000, log }, announced.signal);
    await waitFor(() => seen.at(-1) === `p1 ${incarnation}`);
    announced.abort();
    await presence;
    await waitFor(() => seen.at(-1) === "p1 gone");
  }
  watching.abort();
  await watch;
  assert.deepEqual(seen, ["p1 1", "p1 gone", "p1 2", "p1 gone"]);
  assert.deepEqual(log.lines, []);
  assert.equal(parsePodRecord(JSON.stringify({ podId: "p1" })).kind, "refused");
});

test("a gateway is seen while it is announced, and no longer", async () => {
  await using registry = await openEmpty();
  const log = createRecordingLog();
  const seen: string[] = [];
  const watching = new AbortController();
  const watch = runGatewayWatch(
    registry,
    {
      onGateway: ({ gatewayId, incarnation, peerAddress }) => seen.push(`${gatewayId} ${incarnation} ${peerAddress}`),
      onGone: (gatewayId) => seen.push(`${gatewayId} gone`),
    },
    log,
    watching.signal,
  );
  const announced = new AbortController();
  const gateway = { gatewayId: "g1", incarnation: "1", peerAddress: "127.0.0.1:7000" };
  const presence = runGatewayPresence(registry, gateway, { ttlMs: 1_000, log }, announced.signal);
  await waitFor(() => seen.length === 1);
  await registry.put(gatewayKey("g2"), "{}");
  await waitFor(() => log.lines.length === 1);
  announced.abort();
  await presence;
  await waitFor(() => seen.length === 2);
  watching.abort();
  await watch;
  assert.deepEqual(seen, ["g1 1 127.0.0.1:7000", "g1 gone"]);
  assert.deepEqual(
    log.lines.map(({ message }) => message),
    ["a presence is malformed"],
  );
});
