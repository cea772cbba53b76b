// Owns the behaviour that every store of many objects is held to, on a real server of its kind.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Artefact } from "../../drivers/driver.ts";
import type { Pulled } from "../puller.ts";
import { openPullBench, type PullBench } from "../testing/bench.ts";

export interface StoreHarness extends AsyncDisposable {
  put(path: string, content: Buffer): Promise<void>;
  uri(path: string): string;
  /** Entries of the storage settings; `good` can read. */
  readonly entries: Readonly<Record<string, unknown>>;
  /** Parameters of a `storage:` address that say where the harness puts things, laid over `good`. */
  readonly parameters: Readonly<Record<string, string>>;
  /** An address of a bucket or container that does not exist. */
  readonly absentRoot: string;
  /** For a failure that is tried many times. */
  stop(): Promise<void>;
}

export interface StoreSuiteOptions {
  /** More than a list gives on one page, where the server is quick enough for it. */
  readonly manyFiles?: number;
}

/** The first run installs the server. */
const timeoutMs = 1_800_000;

export function describeStore(
  name: string,
  openHarness: () => Promise<StoreHarness>,
  { manyFiles = 1_010 }: StoreSuiteOptions = {},
): void {
  describe(name, { timeout: timeoutMs }, () => {
    const never = new AbortController().signal;
    let harness: StoreHarness;
    let bench: PullBench;
    before(async () => {
      harness = await openHarness();
      bench = await openPullBench();
      for (const [key, entry] of Object.entries(harness.entries)) await bench.setEntry(key, entry);
      await harness.put("models/iris.onnx", Buffer.from("iris"));
      await harness.put("models/iris.onnx.bak", Buffer.from("another"));
      await harness.put("models/dir/1/model.onnx", Buffer.from("one"));
      await harness.put("models/dir/config.json", Buffer.from("{}"));
      await harness.put("models/dir/empty", Buffer.alloc(0));
      await harness.put("models/dir2/other", Buffer.from("not wanted"));
      await harness.put("schemas/iris.json", Buffer.from("schema"));
    });
    after(async () => {
      await bench?.[Symbol.asyncDispose]();
      await harness?.[Symbol.asyncDispose]();
    });

    const attempt = (artefact: Artefact, signal = never): ReturnType<PullBench["puller"]["pull"]> =>
      bench.puller.pull({ storageKey: "good", ...artefact }, signal);
    const pull = async (artefact: Artefact): Promise<Pulled> => {
      const pulled = await attempt(artefact);
      assert.ok(pulled.kind === "ok", pulled.kind === "failed" ? pulled.reason : "");
      return pulled;
    };
    const fail = async (artefact: Artefact): Promise<{ failure: string; reason: string }> => {
      const pulled = await attempt(artefact);
      assert.ok(pulled.kind === "failed", "it was pulled");
      return pulled;
    };

    test("gives an object under its own name, not what begins like it", async () => {
      const pulled = await pull({ storageUri: harness.uri("models/iris.onnx") });
      assert.ok(pulled.path.endsWith("/iris.onnx"));
      assert.equal(await readFile(pulled.path, "utf8"), "iris");
      assert.equal(pulled.sizeBytes, 4);
    });

    test("gives a folder whole, empty files too, and nothing of its neighbour", async () => {
      assert.deepEqual(await bench.puller.probe({ storageUri: harness.uri("models/dir"), storageKey: "good" }, never), {
        kind: "ok",
        sizeBytes: 5,
      });
      for (const slash of ["", "/"]) {
        const { path } = await pull({ storageUri: harness.uri("models/dir") + slash });
        const found = (await readdir(path, { recursive: true })).toSorted();
        assert.deepEqual(found, ["1", "1/model.onnx", "config.json", "empty"]);
        assert.equal(await readFile(join(path, "1/model.onnx"), "utf8"), "one");
      }
    });

    test(`gives all of ${manyFiles} objects`, async () => {
      const names = Array.from({ length: manyFiles }, (_, at) => `many/${String(at).padStart(4, "0")}`);
      for (let at = 0; at < names.length; at += 25) {
        await Promise.all(names.slice(at, at + 25).map((each) => harness.put(each, Buffer.from(each))));
      }
      const { path } = await pull({ storageUri: harness.uri("many") });
      const found = await readdir(path);
      assert.equal(found.length, manyFiles);
      const last = names.at(-1) ?? "";
      assert.equal(await readFile(join(path, basename(last)), "utf8"), last);
    });

    test("gives a large object whole", async () => {
      const content = randomBytes(5 * 2 ** 20 + 17);
      await harness.put("large.bin", content);
      assert.deepEqual(await readFile((await pull({ storageUri: harness.uri("large.bin") })).path), content);
    });

    test("reads by entry and parameters, with a schema from the root of the storage", async () => {
      const pulled = await pull({
        storageUri: "storage:///models/iris.onnx",
        storageParameters: harness.parameters,
        schemaPath: "schemas/iris.json",
      });
      assert.equal(await readFile(pulled.path, "utf8"), "iris");
      assert.equal(await readFile(pulled.schemaPath ?? "", "utf8"), "schema");
      const inside = await pull({ storageUri: harness.uri("models/dir"), schemaPath: "config.json" });
      assert.equal(inside.schemaPath, join(inside.path, "config.json"));
    });

    test("what is not there is the model's fault, and says what", async () => {
      for (const path of ["models/absent", "models/iris", "models/di"]) {
        const { failure, reason } = await fail({ storageUri: harness.uri(path) });
        assert.equal(failure, "model", reason);
        assert.ok(reason.includes(path), reason);
        assert.match(reason, /nothing at/);
      }
      const { failure, reason } = await fail({ storageUri: harness.absentRoot });
      assert.equal(failure, "model", reason);
      assert.match(reason, /nothing at/);
    });

    test("one absent object does not spoil the next pull", async () => {
      await Promise.all(Array.from({ length: 20 }, (_, at) => fail({ storageUri: harness.uri(`models/absent-${at}`) })));
      await pull({ storageUri: harness.uri("models/iris.onnx") });
    });

    test("what was replaced is fetched anew, what was not is not", async () => {
      await harness.put("replaced", Buffer.from("first"));
      const before = await pull({ storageUri: harness.uri("replaced") });
      assert.equal((await pull({ storageUri: harness.uri("replaced") })).path, before.path);
      await harness.put("replaced", Buffer.from("later"));
      assert.equal(await readFile((await pull({ storageUri: harness.uri("replaced") })).path, "utf8"), "later");
      assert.equal(await readFile(before.path, "utf8"), "first");
    });

    test("stops at the signal", async () => {
      await assert.rejects(attempt({ storageUri: harness.uri("large.bin") }, AbortSignal.abort(new Error("no more"))), /no more/);
    });

    test("an unreachable store is no fault of the model; what is on the disk serves on", async () => {
      const kept = await pull({ storageUri: harness.uri("models/iris.onnx") });
      await harness.stop();
      const { failure, reason } = await fail({ storageUri: harness.uri("models/never-seen") });
      assert.equal(failure, "storage", reason);
      assert.match(reason, /never-seen/);
      assert.equal((await pull({ storageUri: harness.uri("models/iris.onnx") })).path, kept.path);
    });
  });
}
