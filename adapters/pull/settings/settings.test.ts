// The storage settings as a mounted secret gives them: which entry counts, changes while it runs, and entries that are wrong.
import assert from "node:assert/strict";
import { mkdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import { openPullBench, type PullBench } from "../testing/bench.ts";
import { openTestWebServer, type TestWebServer } from "../testing/webserver.ts";
import { parseEntry } from "./entry.ts";
import { createStorageSettings, type Lookup } from "./settings.ts";

const secret = "s3cret-of-the-test";
const s3 = (bucket: string): string => JSON.stringify({ type: "s3", bucket });
const bucketOf = (found: Lookup): string | undefined =>
  found.kind === "found" && found.entry.type === "s3" ? found.entry.bucket : undefined;

describe("the storage settings", () => {
  let folder: RunFolder;
  let at = "";
  let number = 0;
  before(async () => {
    folder = await openRunFolder();
  });
  after(() => folder?.[Symbol.asyncDispose]());
  const write = async (entries: Readonly<Record<string, string>>): Promise<ReturnType<typeof createStorageSettings>> => {
    at = join(folder.path, String(number++));
    await mkdir(at);
    for (const [name, text] of Object.entries(entries)) await writeFile(join(at, name), text);
    return createStorageSettings(at);
  };

  const precedence = [
    { what: "the named one first", key: "mine", type: "s3", gives: "of-mine" },
    { what: "a name with .json too", key: "other", type: "s3", gives: "of-other" },
    { what: "the default of the type next", key: undefined, type: "s3", gives: "of-type" },
    { what: "the default of all when no type is wanted", key: undefined, type: undefined, gives: "of-all" },
  ] as const;
  for (const { what, key, type, gives } of precedence) {
    test(`give ${what}`, async () => {
      const all = { mine: s3("of-mine"), "other.json": s3("of-other"), default_s3: s3("of-type"), default: s3("of-all") };
      const settings = await write(all);
      assert.equal(bucketOf(await settings.find({ key, type })), gives);
    });
  }

  test("give the default of all only when it is of the type", async () => {
    const settings = await write({ default: s3("of-all") });
    assert.equal(bucketOf(await settings.find({ key: undefined, type: "s3" })), "of-all");
    assert.equal((await settings.find({ key: undefined, type: "gcs" })).kind, "none");
  });

  test("refuse a name that is not there, and a default that is of another type", async () => {
    const settings = await write({ default_gcs: s3("x") });
    const absent = await settings.find({ key: "absent", type: "s3" });
    assert.ok(absent.kind === "bad" && /no entry absent/.test(absent.reason), JSON.stringify(absent));
    const odd = await settings.find({ key: undefined, type: "gcs" });
    assert.ok(odd.kind === "bad" && /default_gcs is of type s3/.test(odd.reason), JSON.stringify(odd));
    assert.equal((await createStorageSettings(undefined).find({ key: undefined, type: "s3" })).kind, "none");
  });

  test("are read anew, also when the whole secret is swapped as Kubernetes does it", async () => {
    const settings = await write({});
    const version = async (name: string, text: string): Promise<void> => {
      await mkdir(join(at, name));
      await writeFile(join(at, name, "default_s3"), text);
      await symlink(name, join(at, "..data_tmp"));
      await rename(join(at, "..data_tmp"), join(at, "..data"));
    };
    await version("..1", s3("first"));
    await symlink("..data/default_s3", join(at, "default_s3"));
    assert.equal(bucketOf(await settings.find({ key: undefined, type: "s3" })), "first");
    await version("..2", s3("second"));
    await rm(join(at, "..1"), { recursive: true });
    assert.equal(bucketOf(await settings.find({ key: undefined, type: "s3" })), "second");
    await rm(join(at, "default_s3"));
    assert.equal((await settings.find({ key: undefined, type: "s3" })).kind, "none");
  });

  test("an entry that is wrong concerns nobody but those that use it", async () => {
    const settings = await write({ broken: "{", good: s3("good") });
    assert.equal((await settings.find({ key: "broken", type: "s3" })).kind, "bad");
    assert.equal(bucketOf(await settings.find({ key: "good", type: "s3" })), "good");
    await mkdir(join(at, "folder"));
    await writeFile(join(at, "long"), " ".repeat(2 ** 20 + 1));
    for (const [key, reason] of [
      ["folder", /no file|EISDIR/],
      ["long", /too long/],
    ] as const) {
      const found = await settings.find({ key, type: "s3" });
      assert.ok(found.kind === "bad" && reason.test(found.reason), JSON.stringify(found));
    }
  });
});

describe("an entry of the storage settings", () => {
  const wrong: readonly (readonly [what: string, text: string, reason: RegExp])[] = [
    ["is not JSON", `{"type":"s3","secret_access_key":"${secret}"`, /is no JSON$/],
    ["is a list", "[]", /no JSON object/],
    ["is null", "null", /no JSON object/],
    ["has no type", "{}", /one of the types/],
    ["has the name of a method as type", '{"type":"constructor"}', /one of the types/],
    ["is of a type that is known but not supported", '{"type":"hdfs"}', /hdfs, which is not supported/],
    ["has half of its keys", `{"type":"s3","secret_access_key":"${secret}"}`, /access_key_id, secret_access_key or none/],
    [
      "has a number for a key",
      `{"type":"s3","access_key_id":1,"secret_access_key":"${secret}"}`,
      /access_key_id that is no text/,
    ],
    ["has an address that is none", `{"type":"s3","endpoint_url":"${secret}"}`, /endpoint_url that is no http/],
    ["has a password in its address", `{"type":"s3","endpoint_url":"https://u:${secret}@host"}`, /with a user and password/],
    ["has no address", '{"type":"http"}', /must have url/],
    ["has a header that breaks out", `{"type":"http","url":"https://h","headers":{"a":"x\\r\\nb: ${secret}"}}`, /no text/],
    ["has a header that the transfer decides", '{"type":"http","url":"https://h","headers":{"Range":"x"}}', /not allowed/],
    ["allows a parameter that there is not", `{"type":"s3","allow_parameters":["${secret}"]}`, /other than bucket/],
    ["has no claim", '{"type":"pvc"}', /must have name/],
  ];
  for (const [what, text, reason] of wrong) {
    test(`that ${what} is refused, and none of it repeated`, () => {
      const parsed = parseEntry(text);
      assert.ok(parsed.kind === "malformed");
      assert.match(parsed.reason, reason);
      assert.ok(!parsed.reason.includes(secret));
    });
  }
});

describe("a pull by the storage settings", { timeout: 120_000 }, () => {
  const never = new AbortController().signal;
  let server: TestWebServer;
  let bench: PullBench;
  before(async () => {
    server = await openTestWebServer();
    bench = await openPullBench();
  });
  after(async () => {
    await bench?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  test("takes the secret that counts now", async () => {
    server.files.set("/m.onnx", Buffer.from("model"));
    for (const token of ["first", "second"]) {
      await bench.setEntry("web", { type: "http", url: server.url, headers: { authorization: `Bearer ${token}` } });
      const pulled = await bench.puller.pull({ storageUri: "storage:///m.onnx", storageKey: "web" }, never);
      assert.ok(pulled.kind === "ok", JSON.stringify(pulled));
      assert.equal(server.requests.at(-1)?.headers.authorization, `Bearer ${token}`);
    }
  });

  test("finds a claim by address and by entry, copies nothing, and stays inside it", async () => {
    const claim = join(bench.folder, "claims/models");
    await mkdir(join(claim, "team"), { recursive: true });
    await writeFile(join(claim, "team/m.onnx"), "claimed");
    await writeFile(join(bench.folder, "outside"), "outside");
    await symlink("../../../outside", join(claim, "team/link"));
    await bench.setEntry("claim", { type: "pvc", name: "models" });
    for (const artefact of [
      { storageUri: "pvc://models/team/m.onnx" },
      { storageUri: "storage:///team/m.onnx", storageKey: "claim" },
    ]) {
      const pulled = await bench.puller.pull(artefact, never);
      assert.ok(pulled.kind === "ok", JSON.stringify(pulled));
      assert.equal(await readFile(pulled.path, "utf8"), "claimed");
      await pulled.release();
      assert.equal(await readFile(join(claim, "team/m.onnx"), "utf8"), "claimed");
    }
    for (const storageUri of ["pvc://models/team/link", "pvc://models/absent", "pvc://other/m.onnx", "pvc://models/../x"]) {
      const pulled = await bench.puller.pull({ storageUri }, never);
      assert.ok(pulled.kind === "failed", storageUri);
      assert.ok(!pulled.reason.includes(bench.folder), pulled.reason);
      assert.equal(
        /the claim other is not mounted .* the storage settings do not list it/.test(pulled.reason),
        storageUri.includes("other"),
      );
    }
    assert.equal(bench.cache.usedBytes, 5, "nothing of the claim is in the cache, only what the web gave");
  });
});
