// Archives of every kind through the whole puller, and hostile ones.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { access, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { crc32, gzipSync, zstdCompressSync } from "node:zlib";
import { array, asyncProperty, assert as check, constantFrom, oneof, record, string } from "fast-check";
import { type Header, pack } from "tar-stream";
import { openPullBench, type PullBench } from "../testing/bench.ts";
import { openTestWebServer, type TestWebServer } from "../testing/webserver.ts";

type Entry = Partial<Header> & { readonly name: string; readonly content?: string };

async function tarOf(entries: readonly Entry[]): Promise<Buffer> {
  const tar = pack();
  for (const { content = "", ...header } of entries) tar.entry(header, content);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Stored entries, with whatever names and attributes. */
function zipOf(entries: readonly { readonly name: string; readonly content?: string; readonly mode?: number }[]): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const { name, content = "", mode = 0o100644 } of entries) {
    const [bytes, data] = [Buffer.from(name), Buffer.from(content)];
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x800, 2);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(bytes.length, 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04"), common, bytes, data]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE((mode << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from("PK\x01\x02"), Buffer.from([20, 3]), common, tail, bytes]));
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...locals, directory, Buffer.from("PK\x05\x06"), end]);
}

describe("archives", { timeout: 120_000 }, () => {
  const never = new AbortController().signal;
  let server: TestWebServer;
  let bench: PullBench;
  let made = 0;
  before(async () => {
    server = await openTestWebServer();
    bench = await openPullBench();
  });
  after(async () => {
    await bench?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });
  const pull = (suffix: string, content: Buffer, on = bench): ReturnType<PullBench["puller"]["pull"]> => {
    const path = `/${++made}/model${suffix}`;
    server.files.set(path, content);
    return on.puller.pull({ storageUri: `${server.url}${path}` }, never);
  };
  const good: readonly Entry[] = [
    { name: "./", type: "directory" },
    { name: "./1/", type: "directory" },
    { name: "./1/model.onnx", content: "one" },
    { name: "config.pbtxt", content: "c" },
  ];

  const kinds: readonly (readonly [string, () => Promise<Buffer>])[] = [
    [".tar", () => tarOf(good)],
    [".tar.gz", async () => gzipSync(await tarOf(good))],
    [".tgz", async () => gzipSync(await tarOf(good))],
    [".tar.zst", async () => zstdCompressSync(await tarOf(good))],
    [
      ".zip",
      async () =>
        zipOf([
          { name: "1/", mode: 0o40755 },
          { name: "1/model.onnx", content: "one" },
          { name: "config.pbtxt", content: "c" },
        ]),
    ],
  ];
  for (const [suffix, make] of kinds) {
    test(`${suffix} is unpacked to a folder`, async () => {
      const pulled = await pull(suffix, await make());
      assert.ok(pulled.kind === "ok", JSON.stringify(pulled));
      assert.ok(pulled.path.endsWith("/model"));
      assert.deepEqual((await readdir(pulled.path, { recursive: true })).toSorted(), ["1", "1/model.onnx", "config.pbtxt"]);
      assert.equal(await readFile(join(pulled.path, "1/model.onnx"), "utf8"), "one");
      assert.equal(pulled.sizeBytes, 4);
    });
  }

  test("what common tools make is unpacked", async () => {
    const folder = mkdtempSync(join(bench.folder, "made-"));
    writeFileSync(join(folder, `${"long".repeat(40)}.bin`), "long");
    const done = spawnSync("tar", ["-czf", join(folder, "x.tgz"), "-C", folder, ...readdirSync(folder)], { encoding: "utf8" });
    assert.equal(done.status, 0, done.stderr);
    const pulled = await pull(".tar.gz", readFileSync(join(folder, "x.tgz")));
    assert.ok(pulled.kind === "ok", JSON.stringify(pulled));
    assert.deepEqual(await readdir(pulled.path), [`${"long".repeat(40)}.bin`]);
  });

  const hostile: readonly (readonly [string, string, () => Promise<Buffer>, RegExp])[] = [
    ["a path upwards", ".tar", () => tarOf([{ name: "../../evil", content: "x" }]), /the part \.\./],
    ["a path upwards inside", ".tar", () => tarOf([{ name: "a/../../evil", content: "x" }]), /the part \.\./],
    ["an absolute path", ".tar", () => tarOf([{ name: "/tmp/warmpath-evil", content: "x" }]), /absolute/],
    ["a symbolic link", ".tar", () => tarOf([{ name: "a", type: "symlink", linkname: "/etc/passwd" }]), /no file but a symlink/],
    ["a hard link", ".tar", () => tarOf([{ name: "a", type: "link", linkname: "/etc/passwd" }]), /no file but a link/],
    [
      "a link and a file through it",
      ".tar",
      () =>
        tarOf([
          { name: "a", type: "symlink", linkname: "/tmp" },
          { name: "a/evil", content: "x" },
        ]),
      /no file but/,
    ],
    ["a device", ".tar", () => tarOf([{ name: "a", type: "block-device" }]), /no file but a block-device/],
    ["a pipe", ".tar", () => tarOf([{ name: "a", type: "fifo" }]), /no file but a fifo/],
    [
      "one name twice",
      ".tar",
      () =>
        tarOf([
          { name: "a", content: "x" },
          { name: "a", content: "y" },
        ]),
      /twice/,
    ],
    [
      "one name in two forms",
      ".tar",
      () =>
        tarOf([
          { name: "a", content: "x" },
          { name: "./a", content: "y" },
        ]),
      /twice/,
    ],
    [
      "a file that is a folder too",
      ".tar",
      () =>
        tarOf([
          { name: "a", content: "x" },
          { name: "a/b", content: "y" },
        ]),
      /twice/,
    ],
    ["a backslash", ".tar", () => tarOf([{ name: "..\\evil", content: "x" }]), /backslash/],
    ["nothing", ".tar", () => tarOf([]), /holds no file/],
    ["no archive", ".tar", async () => Buffer.from("<html>not found</html>".repeat(100)), /broken/],
    [
      "a torn archive",
      ".tar.gz",
      async () => gzipSync(await tarOf([{ name: "a", content: "x".repeat(9_999) }])).subarray(0, 40),
      /broken/,
    ],
    ["no zip", ".zip", async () => Buffer.from("PK"), /broken/],
    ["a path upwards in a zip", ".zip", async () => zipOf([{ name: "../evil", content: "x" }]), /broken|\.\./],
    ["an absolute path in a zip", ".zip", async () => zipOf([{ name: "/tmp/warmpath-evil", content: "x" }]), /broken|absolute/],
    ["a link in a zip", ".zip", async () => zipOf([{ name: "a", content: "/etc/passwd", mode: 0o120777 }]), /link or device/],
    [
      "one name twice in a zip",
      ".zip",
      async () =>
        zipOf([
          { name: "a", content: "x" },
          { name: "a", content: "y" },
        ]),
      /twice/,
    ],
  ];
  for (const [what, suffix, make, reason] of hostile) {
    test(`${what} is refused, and nothing of it stays`, async () => {
      const usedBytes = bench.cache.usedBytes;
      const pulled = await pull(suffix, await make());
      assert.ok(pulled.kind === "failed", "it was pulled");
      assert.equal(pulled.failure, "model", pulled.reason);
      assert.match(pulled.reason, reason);
      await assert.rejects(access("/tmp/warmpath-evil"));
      assert.ok(bench.cache.usedBytes - usedBytes < 65_536);
    });
  }

  test("a bomb is stopped by its ratio, or by the size of the cache", async () => {
    const zeros = Buffer.alloc(300 * 2 ** 20);
    const bomb = gzipSync(
      await tarOf([{ name: "a", size: 0 }]).then((tar) => Buffer.concat([headerOf(zeros.length), zeros, tar])),
    );
    const ratio = await pull(".tar.gz", bomb);
    assert.ok(
      ratio.kind === "failed" && ratio.failure === "model" && /times its own size/.test(ratio.reason),
      JSON.stringify(ratio),
    );
    await using small = await openPullBench({ maxBytes: 16 * 2 ** 20 });
    const size = await pull(".tar.gz", bomb, small);
    assert.ok(size.kind === "failed" && size.failure === "capacity", JSON.stringify(size));
    assert.ok(small.cache.usedBytes <= 16 * 2 ** 20);
  });

  test("whatever names an archive has, nothing is written outside of its folder", async () => {
    const part = oneof(
      constantFrom("..", ".", "", "a", "b", "\0", "\\", "con", "é", "e\u0301", "a".repeat(300)),
      string({ maxLength: 4 }),
    );
    const entry = record({
      name: array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("/") || "x"),
      type: constantFrom("file" as const, "symlink" as const, "directory" as const, "link" as const),
    });
    const before = new Set(readdirSync(bench.folder));
    await check(
      asyncProperty(array(entry, { minLength: 1, maxLength: 5 }), async (entries) => {
        const tar = await tarOf(
          entries.map(({ name, type }) => ({ name, type, ...(type === "file" ? { content: "x" } : { linkname: "../../../x" }) })),
        ).catch(() => undefined);
        if (tar === undefined) return;
        const pulled = await pull(".tar", tar);
        if (pulled.kind === "ok") {
          for (const found of await readdir(pulled.path, { recursive: true, withFileTypes: true })) {
            assert.ok(found.isFile() || found.isDirectory());
          }
          await pulled.release();
        } else assert.equal(pulled.failure, "model", pulled.reason);
      }),
      { numRuns: 150 },
    );
    assert.deepEqual(new Set(readdirSync(bench.folder)), before);
    assert.deepEqual(readdirSync(join(bench.folder, "cache")).toSorted(), ["content", "owner", "partial", "trash"]);
  });
});

/** Of a plain file in the old form. */
function headerOf(sizeBytes: number): Buffer {
  const header = Buffer.alloc(512);
  header.write("zeros", 0);
  header.write("0000644\0", 100);
  header.write("0000000\0", 108);
  header.write("0000000\0", 116);
  header.write(`${sizeBytes.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        ", 148);
  header.write("0", 156);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}
