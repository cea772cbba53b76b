// The whole adapter, in a process of its own, with the real built-in model server beside it.
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { silentLog } from "#platform/log.ts";
import { type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { runPodWatch } from "#platform/registry/presence.ts";
import type { PodPresence } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { CopyState, FailureKind } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { addConstantGraph } from "#runtimes/onnx/testing/graphs.ts";
import { openTestGateway, type TestGateway } from "./testing/gateway.ts";

/** A copy of the test model takes some 73 kB: three fit, four do not. */
const capacityBytes = 250_000;

describe("the adapter beside a real model server", { timeout: 200_000 }, () => {
  let folder: RunFolder;
  let modelServer: SupervisedProcess;
  let adapter: SupervisedProcess;
  let gateway: TestGateway;
  let registry: Registry;
  let watching: Promise<void>;
  let restPort = 0;
  const linkPorts: number[] = [];
  const printed: string[] = [];
  const pods = new Map<string, PodPresence>();
  const stop = new AbortController();
  const at = (name: string): string => join(folder.path, name);
  const uri = (model: string): string => `file://${at(`models/${model}.onnx`)}`;

  before(async () => {
    folder = await openRunFolder();
    await mkdir(at("models"));
    for (let n = 0; n < 8; n++) await writeFile(at(`models/m${n}.onnx`), addConstantGraph(n));
    await writeFile(at("models/broken.onnx"), "no model");
    modelServer = superviseProcess({
      name: "onnx",
      command: process.execPath,
      args: [
        "runtimes/onnx/main.ts",
        "--rest-port",
        "0",
        "--grpc-port",
        "0",
        "--admin-socket",
        at("admin.sock"),
        "--exit-with-parent",
      ],
      cwd: new URL("..", import.meta.url).pathname,
      readyLine: /"ready":true/,
      restart: { kind: "always", firstMs: 10 },
      onOutput: (line) => {
        if (line.includes('"restPort"')) restPort = JSON.parse(line).restPort;
      },
    });
    await modelServer.ready;
    adapter = superviseProcess({
      name: "adapter",
      command: process.execPath,
      args: [
        ["adapters/main.ts"],
        ["--pod-id", "pod-1", "--runtime", "onnx", "--admin-socket", at("admin.sock"), "--registry", at("registry.db")],
        ["--rest-address", "127.0.0.1:1001", "--grpc-address", "127.0.0.1:1002", "--storage-root", at("models")],
        [
          "--capacity-bytes",
          String(capacityBytes),
          "--headroom-bytes",
          "0",
          "--labels",
          "zone=a",
          "--min-age",
          "1h",
          "--drain",
          "0s",
        ],
      ].flat(),
      cwd: new URL("..", import.meta.url).pathname,
      readyLine: /"ready":true/,
      restart: { kind: "always", firstMs: 10 },
      onOutput: (line, from) => {
        printed.push(line);
        if (from === "stdout" && line.includes("linkPort")) linkPorts.push(JSON.parse(line).linkPort);
      },
    });
    await adapter.ready.catch((error: unknown) => assert.fail(`${String(error)}: ${printed.join("\n")}`));
    registry = await openRegistry({ kind: "embedded", file: at("registry.db") });
    const listener = {
      onPod: (pod: PodPresence): void => void pods.set(pod.podId, pod),
      onGone: (podId: string): void => void pods.delete(podId),
    };
    watching = runPodWatch(registry, listener, silentLog, stop.signal);
    gateway = openTestGateway(`127.0.0.1:${linkPorts[0]}`);
  });

  after(async () => {
    gateway?.[Symbol.dispose]();
    stop.abort();
    await watching;
    await registry?.[Symbol.asyncDispose]();
    await adapter?.stop();
    await modelServer?.stop();
    await folder?.[Symbol.asyncDispose]();
  });

  const predict = async (model: string): Promise<unknown> => {
    const answer = await fetch(`http://127.0.0.1:${restPort}/v2/models/${model}/infer`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ inputs: [{ name: "x", datatype: "FP32", shape: [1, 2], data: [1, 2] }] }),
    });
    const body: unknown = await answer.json();
    return answer.ok ? (body as { outputs: { data: unknown }[] }).outputs[0]?.data : answer.status;
  };

  test("says what it is, and is announced", async () => {
    await waitFor(() => gateway.linked);
    assert.equal(gateway.pod?.podId, "pod-1");
    assert.equal(gateway.pod.capacityBytes, BigInt(capacityBytes));
    assert.equal(gateway.pod.restAddress, "127.0.0.1:1001");
    assert.deepEqual(gateway.pod.labels, { zone: "a" });
    const pod = await waitFor(() => pods.get("pod-1"));
    assert.equal(pod.linkAddress, `127.0.0.1:${linkPorts[0]}`);
    assert.equal(pod.incarnation, gateway.pod.incarnation);
  });

  test("loads, serves, and evicts the least recently used", async () => {
    for (const model of ["m0", "m1", "m2"]) {
      gateway.load(model, { storageUri: uri(model), sizeHintBytes: 73_000 });
      await gateway.reaches(model, CopyState.READY);
    }
    assert.deepEqual(await predict("m2"), [3, 4]);
    gateway.send({ case: "usage", value: { entries: [{ model: "m0", revision: "r1", requests: 1, idleMs: 0 }] } });
    gateway.load("m3", { storageUri: uri("m3"), sizeHintBytes: 73_000 });
    await gateway.reaches("m3", CopyState.READY);
    await waitFor(() => !gateway.copies.has("m1@r1"));
    assert.deepEqual(gateway.states.get("m1@r1")?.slice(-2), [CopyState.LEAVING, CopyState.GONE]);
    assert.deepEqual(
      [await predict("m0"), await predict("m3")],
      [
        [1, 2],
        [4, 5],
      ],
    );
    assert.equal(await predict("m1"), 503);
    assert.ok(gateway.copies.has("m0@r1"));
    await waitFor(() => gateway.gauges?.evictions === 1n && gateway.gauges.loads === 4n);
    assert.deepEqual(gateway.faults, []);
  });

  test("tells whose fault a failure is", async () => {
    gateway.load("broken", { storageUri: uri("broken") });
    const copy = await gateway.reaches("broken", CopyState.FAILED);
    assert.equal(copy.failure?.kind, FailureKind.MODEL);
    gateway.load("absent", { storageUri: uri("absent") });
    assert.equal((await gateway.reaches("absent", CopyState.FAILED)).failure?.kind, FailureKind.MODEL);
    gateway.load("outside", { storageUri: "file:///etc/passwd" });
    assert.match((await gateway.reaches("outside", CopyState.FAILED)).failure?.reason ?? "", /outside/);
  });

  test("verifies against the model server", async () => {
    gateway.send({ case: "verify", value: { id: 7n, model: "m3", revision: "r1" } });
    gateway.send({ case: "verify", value: { id: 8n, model: "m1", revision: "r1" } });
    await waitFor(() => gateway.verified.size === 2);
    assert.deepEqual([gateway.verified.get(7n), gateway.verified.get(8n)], [true, false]);
  });

  test("adopts what the model server holds when the adapter was killed", async () => {
    const before = [...gateway.copies].filter(([, copy]) => copy.state === CopyState.READY).map(([key]) => key);
    process.kill(adapter.pid ?? 0, "SIGKILL");
    await waitFor(() => linkPorts.length === 2);
    gateway[Symbol.dispose]();
    gateway = openTestGateway(`127.0.0.1:${linkPorts[1]}`);
    await waitFor(() => gateway.linked);
    assert.deepEqual([...gateway.copies.keys()].sort(), before.sort());
    assert.deepEqual(await predict("m3"), [4, 5]);
    await waitFor(() => pods.get("pod-1")?.incarnation === gateway.pod?.incarnation);
  });

  test("tells at once that all copies went with the model server, and goes on with the next one", async () => {
    assert.ok(gateway.copies.has("m3@r1"));
    process.kill(modelServer.pid ?? 0, "SIGKILL");
    await waitFor(() => gateway.copies.size === 0);
    // As a gateway does: a load that was refused, since the model server takes its time to come back, is asked for again.
    let refusals = -1;
    await waitFor(() => {
      if (gateway.refused.length > refusals) {
        refusals = gateway.refused.length;
        gateway.load("m3", { storageUri: uri("m3") });
      }
      return gateway.copies.get("m3@r1")?.state === CopyState.READY;
    });
    assert.deepEqual(await predict("m3"), [4, 5]);
    assert.deepEqual(gateway.faults, []);
  });

  test("ends on SIGTERM, its presence with it", async () => {
    const killedMs = 60_000;
    const started = performance.now();
    await adapter.stop(killedMs);
    assert.ok(performance.now() - started < killedMs, "it was killed");
    await waitFor(() => gateway.ended && !pods.has("pod-1"));
  });
});
