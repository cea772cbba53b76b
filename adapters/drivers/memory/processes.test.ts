import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { createProcessMeter } from "./processes.ts";

const never = new AbortController().signal;

/** A process that listens, with one below it; both grow when told to. */
const script = `
const { spawn } = require("node:child_process");
const held = [];
const grow = (bytes) => held.push(Buffer.alloc(bytes, 1));
const child = spawn(process.execPath, ["-e", "const held=[];process.stdin.on('data',()=>{held.push(Buffer.alloc(32*2**20,1));process.stdout.write('x')})"], { stdio: ["pipe", "pipe", "inherit"] });
const server = require("node:net").createServer().listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("data", () => {
  grow(64 * 2 ** 20);
  child.stdin.write("x");
  child.stdout.once("data", () => console.log("grown"));
});
process.stdin.on("end", () => { child.kill(); process.exit(); });
`;

test("the memory of whoever listens at the address, and of all below it", async () => {
  const child = spawn(process.execPath, ["-e", script], { stdio: ["pipe", "pipe", "inherit"] });
  try {
    const [port] = await once(child.stdout, "data");
    const meter = createProcessMeter(`127.0.0.1:${String(port).trim()}`);
    const before = (await meter.read(never)) ?? 0;
    assert.ok(before > 2 ** 20, `${before}`);
    const grown = once(child.stdout, "data");
    child.stdin.write("x");
    await grown;
    const grewBytes = ((await meter.read(never)) ?? 0) - before;
    assert.ok(grewBytes > 90 * 2 ** 20 && grewBytes < 130 * 2 ** 20, `${grewBytes}`);
    assert.equal(await meter.readOne(child.pid ?? 0, never), await meter.read(never));
    assert.equal(await meter.readOne(process.pid, never), undefined, "which is none of its own");
  } finally {
    child.stdin.end();
    await once(child, "close");
  }
});

test("where nobody listens there is nothing to measure", async () => {
  assert.equal(await createProcessMeter("127.0.0.1:1").read(never), undefined);
  assert.equal(await createProcessMeter("unix:/nowhere").read(never), undefined);
});
