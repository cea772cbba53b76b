// The engine over a real API server: copies that survive whatever happens to the watch, conditional writes, server-side apply.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { createKubeClient, type KubeClient, KubeError, type WatchEvent } from "#controller/engine/client.ts";
import type { ResourceType } from "#controller/engine/objects.ts";
import { createReflector, type Reflector } from "#controller/engine/reflector.ts";
import { silentLog } from "#platform/log.ts";
import { waitUntil } from "../harness/wait.ts";
import { type ControlPlane, openControlPlane } from "./harness/controlplane.ts";
import { whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const configMaps: ResourceType = { group: "", version: "v1", plural: "configmaps", kind: "ConfigMap", namespaced: true };

describe("the engine", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let plane: ControlPlane;
  let client: KubeClient;

  before(async () => {
    plane = stack.use(await openControlPlane());
    client = stack.use(createKubeClient(plane.kubeconfig));
  });
  after(() => stack.disposeAsync());

  const put = (namespace: string, name: string, value: string): Promise<unknown> =>
    client.apply(configMaps, { metadata: { name, namespace }, data: { value } } as {
      metadata: { name: string; namespace: string };
    });

  /** What the API server has, by its own list. */
  async function truth(namespace: string): Promise<Readonly<Record<string, unknown>>> {
    const list = JSON.parse(await plane.kubectl("get", "configmaps", "--namespace", namespace, "--output", "json"));
    return Object.fromEntries(
      list.items.map((item: { metadata: { name: string }; data?: { value?: string } }) => [
        `${namespace}/${item.metadata.name}`,
        item.data?.value,
      ]),
    );
  }

  function follow(
    namespace: string,
    over: Pick<KubeClient, "list" | "watch">,
    signal: AbortSignal,
  ): { readonly reflector: Reflector<string>; readonly changes: string[]; readonly running: Promise<void> } {
    const changes: string[] = [];
    const reflector = createReflector<string>({
      client: over,
      type: configMaps,
      namespace,
      log: silentLog,
      parse: ({ body }) => String((body["data"] as { value?: string } | undefined)?.value),
      onChange: (key, now) => void changes.push(`${key}=${now}`),
    });
    return { reflector, changes, running: reflector.run(signal) };
  }

  const sameAs = async (reflector: Reflector<string>, namespace: string): Promise<void> => {
    await waitUntil(
      "the copy is what the API server has",
      async () => ({
        copy: Object.fromEntries(Array.from(reflector.store.keys(), (key) => [key, reflector.store.get(key)])),
        truth: await truth(namespace),
      }),
      ({ copy, truth }) => isDeepStrictEqual(copy, truth),
      60_000,
    );
  };

  test("lists in pages, then follows each change", async () => {
    await plane.kubectl("create", "namespace", "pages");
    for (let at = 0; at < 1_100; at += 50)
      await Promise.all(Array.from({ length: 50 }, (_, more) => put("pages", `m-${at + more}`, "1")));
    const stop = new AbortController();
    let pages = 0;
    const counting: Pick<KubeClient, "list" | "watch"> = {
      list(...args) {
        pages += 1;
        return client.list(...args);
      },
      watch: (...args) => client.watch(...args),
    };
    const { reflector, changes, running } = follow("pages", counting, stop.signal);
    await reflector.synced;
    assert.equal(pages, 3);
    assert.equal(reflector.store.size, 1_100);
    await put("pages", "m-7", "2");
    await client.delete(configMaps, "pages", "m-8");
    await waitUntil(
      "the changes are told",
      () => changes.slice(1_100),
      (told) => told.length >= 2,
      30_000,
    );
    assert.deepEqual(changes.slice(1_100), ["pages/m-7=2", "pages/m-8=undefined"]);
    stop.abort();
    await running;
  });

  test("whatever becomes of the watch, the copy becomes what is there", async () => {
    await plane.kubectl("create", "namespace", "watches");
    const stop = new AbortController();
    // Each watch ends in another way after a few events: quietly, by a broken connection, by having expired.
    let turn = 0;
    const faulty: Pick<KubeClient, "list" | "watch"> = {
      list: (...args) => client.list(...args),
      async *watch(type, namespace, options): AsyncIterable<WatchEvent> {
        const how = turn++ % 3;
        let told = 0;
        for await (const event of client.watch(type, namespace, options)) {
          if (told++ >= 2) {
            if (how === 0) return;
            if (how === 1) throw new Error("the connection broke");
            yield { kind: "expired" };
            return;
          }
          yield event;
        }
      },
    };
    const { reflector, running } = follow("watches", faulty, stop.signal);
    await reflector.synced;
    for (let at = 0; at < 24; at++) {
      await put("watches", `w-${at % 5}`, `${at}`);
      if (at % 7 === 6) await client.delete(configMaps, "watches", `w-${(at + 1) % 5}`);
    }
    await sameAs(reflector, "watches");
    assert.ok(turn >= 3, `${turn} watches`);
    stop.abort();
    await running;
  });

  test("an API server that is killed and comes back is followed on", async () => {
    await plane.kubectl("create", "namespace", "restarts");
    const stop = new AbortController();
    const { reflector, running } = follow("restarts", client, stop.signal);
    await reflector.synced;
    await put("restarts", "before", "1");
    await waitUntil(
      "it is seen",
      () => reflector.store.get("restarts/before"),
      (value) => value === "1",
      30_000,
    );
    await plane.restartApi();
    await put("restarts", "after", "1");
    await sameAs(reflector, "restarts");
    stop.abort();
    await running;
  });

  test("of two who write at once one is told of the conflict", async () => {
    const object = await client.create(configMaps, "default", {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "race" },
      data: { value: "0" },
    });
    const write = (value: string): Promise<string> =>
      client.replace(configMaps, "default", "race", { ...object.body, data: { value } }).then(
        () => "written",
        (error: unknown) => (error instanceof KubeError ? error.reason : String(error)),
      );
    const results = await Promise.all([write("1"), write("2"), write("3")]);
    assert.deepEqual(results.toSorted(), ["Conflict", "Conflict", "written"]);
  });

  test("an object that is not there is no error to read or delete; what is forbidden says so", async () => {
    assert.equal(await client.get(configMaps, "default", "nothing"), undefined);
    assert.equal(await client.delete(configMaps, "default", "nothing"), false);
    const outsider = createKubeClient(await plane.kubeconfigFor("outsider", "no-such-token"));
    await assert.rejects(
      outsider.get(configMaps, "default", "race"),
      (error) => error instanceof KubeError && error.status === 401,
    );
    await outsider[Symbol.asyncDispose]();
  });
});
