import assert from "node:assert/strict";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { openRunFolder, type RunFolder } from "#platform/tempdir.ts";
import { createFilePuller } from "./local.ts";
import { createPullers } from "./puller.ts";

const signal = new AbortController().signal;

describe("the file puller", () => {
  let folder: RunFolder;
  const at = (...names: string[]): string => join(folder.path, ...names);
  const puller = (storageRoot = at("root")): ReturnType<typeof createPullers> =>
    createPullers({ file: createFilePuller({ storageRoot }) });

  before(async () => {
    folder = await openRunFolder();
    await mkdir(at("root", "model dir", "1"), { recursive: true });
    await mkdir(at("root-beside"));
    await writeFile(at("root", "a.onnx"), "12345");
    await writeFile(at("root", "model dir", "config"), "123");
    await writeFile(at("root", "model dir", "1", "weights"), "4567");
    await writeFile(at("secret"), "secret");
    await writeFile(at("root-beside", "b.onnx"), "b");
    await mkdir(at("root", "empty", "emptier"), { recursive: true });
    await symlink(at("secret"), at("root", "escape"));
    await symlink(at("root", "a.onnx"), at("root", "inside"));
    await symlink(at("root", "circle"), at("root", "circle"));
    await symlink(at("root"), at("link-to-root"));
  });
  after(() => folder[Symbol.asyncDispose]());

  test("gives out files and folders where they lie, and their size", async () => {
    const file = await puller().pull({ storageUri: pathToFileURL(at("root", "a.onnx")).href }, signal);
    assert.ok(file.kind === "ok");
    assert.deepEqual([file.path, file.sizeBytes], [at("root", "a.onnx"), 5]);
    await file.release();
    await file.release();
    const dir = pathToFileURL(at("root", "model dir")).href;
    assert.ok(dir.includes("%20"));
    assert.deepEqual(await puller().probe({ storageUri: dir }, signal), {
      kind: "ok",
      path: at("root", "model dir"),
      sizeBytes: 7,
    });
  });

  test("follows links only to what lies inside", async () => {
    const inside = await puller().pull({ storageUri: pathToFileURL(at("root", "inside")).href }, signal);
    assert.equal(inside.kind === "ok" && inside.path, at("root", "a.onnx"));
    const linkedRoot = await puller(at("link-to-root")).pull({ storageUri: pathToFileURL(at("root", "a.onnx")).href }, signal);
    assert.equal(linkedRoot.kind, "ok");
    const whole = await puller("/").pull({ storageUri: pathToFileURL(at("root", "a.onnx")).href }, signal);
    assert.equal(whole.kind, "ok");
  });

  test("gives out the schema beside a file or in a folder, and nothing from outside for it", async () => {
    const inFolder = { storageUri: pathToFileURL(at("root", "model dir")).href, schemaPath: "1/weights" };
    const folder = await puller().pull(inFolder, signal);
    assert.equal(folder.kind === "ok" && folder.schemaPath, at("root", "model dir", "1", "weights"));
    const storageUri = pathToFileURL(at("root", "a.onnx")).href;
    const beside = await puller().pull({ storageUri, schemaPath: "model dir/config" }, signal);
    assert.equal(beside.kind === "ok" && beside.schemaPath, at("root", "model dir", "config"));
    for (const schemaPath of ["absent", "escape", "model dir", "circle"]) {
      const refused = await puller().pull({ storageUri, schemaPath }, signal);
      assert.ok(refused.kind === "failed" && refused.failure === "model" && /schema/.test(refused.reason), schemaPath);
    }
  });

  const refused: readonly (readonly [string, () => string, string, RegExp])[] = [
    ["a link to the outside", () => pathToFileURL(at("root", "escape")).href, "model", /outside/],
    ["dots to the outside", () => `file://${at("root")}/../secret`, "model", /outside/],
    ["encoded dots to the outside", () => `file://${at("root")}/%2e%2e/secret`, "model", /outside/],
    ["a folder whose name begins like the root", () => pathToFileURL(at("root-beside", "b.onnx")).href, "model", /outside/],
    ["an encoded slash", () => `file://${at("root")}/..%2Fsecret`, "model", /look like/],
    ["an encoded null", () => `file://${at("root")}/a%00`, "model", /look like/],
    ["another host", () => "file://host/etc/passwd", "model", /look like/],
    ["a relative path", () => "file:a.onnx", "model", /look like/],
    ["a query", () => `file://${at("root", "a.onnx")}?x=1`, "model", /look like/],
    ["nothing there", () => `file://${at("root", "absent")}`, "model", /no artefact/],
    ["an empty folder", () => pathToFileURL(at("root", "empty")).href, "model", /empty folder/],
    ["a file taken for a folder", () => `file://${at("root", "a.onnx", "x")}`, "model", /cannot be read/],
    ["a circle of links", () => `file://${at("root", "circle")}`, "model", /ELOOP/],
    ["a name that is too long", () => `file://${at("root")}/${"x".repeat(300)}`, "model", /ENAMETOOLONG/],
    ["no regular file", () => "file:///dev/null", "model", /outside/],
    ["another scheme", () => "s3://bucket/key", "model", /cannot fetch from s3:, only from file:/],
    ["a scheme of the prototype", () => "constructor:x", "model", /cannot fetch/],
  ];
  for (const [what, uri, failure, reason] of refused) {
    test(`refuses ${what}`, async () => {
      const pulled = await puller().pull({ storageUri: uri() }, signal);
      assert.ok(pulled.kind === "failed");
      assert.equal(pulled.failure, failure);
      assert.match(pulled.reason, reason);
      assert.ok(!pulled.reason.includes("secret"));
    });
  }

  test("takes a device for no artefact, and a missing root for a fault of the storage", async () => {
    const device = await puller("/dev").pull({ storageUri: "file:///dev/null" }, signal);
    assert.ok(device.kind === "failed" && device.failure === "model" && /neither/.test(device.reason));
    const rootless = await puller(at("absent")).pull({ storageUri: pathToFileURL(at("root", "a.onnx")).href }, signal);
    assert.ok(rootless.kind === "failed" && rootless.failure === "storage");
  });

  test("stops at the signal", async () => {
    const uri = pathToFileURL(at("root", "model dir")).href;
    await assert.rejects(puller().pull({ storageUri: uri }, AbortSignal.abort(new Error("no more"))), /no more/);
  });
});
