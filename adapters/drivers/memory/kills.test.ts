import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openRunFolder } from "#platform/tempdir.ts";
import { openMemoryGroup } from "#test/harness/memorygroup.ts";
import { createKillMeter } from "./kills.ts";

const tcp = "  sl  local_address rem_address   st\n   0: 0100007F:1F40 00000000:0000 0A 0:0 00:0 0 0 0 77 1 0\n";

interface Machine {
  write(file: string, text: string): Promise<void>;
  readonly folder: string;
}

/** A machine on which process 7 listens on port 8000, in the control group that the text names. */
async function withMachine(cgroup: string, work: (machine: Machine) => Promise<void>): Promise<void> {
  await using run = await openRunFolder();
  const machine: Machine = {
    folder: run.path,
    async write(file, text): Promise<void> {
      const path = join(run.path, file);
      await mkdir(join(path, ".."), { recursive: true });
      await writeFile(path, text);
    },
  };
  await machine.write("proc/net/tcp", tcp);
  await mkdir(join(run.path, "proc/7/fd"), { recursive: true });
  await symlink("socket:[77]", join(run.path, "proc/7/fd/3"));
  await machine.write("proc/7/cgroup", cgroup);
  await machine.write("proc/vmstat", "nr_free_pages 5\noom_kill 3\n");
  await work(machine);
}

const cases: readonly { readonly name: string; readonly cgroup: string; readonly file: string }[] = [
  { name: "a group of version 2", cgroup: "0::/models\n", file: "sys/models/memory.events" },
  { name: "a group of version 1", cgroup: "4:cpu:/a\n3:memory:/models\n0::/\n", file: "sys/memory/models/memory.oom_control" },
  { name: "a container beside this one", cgroup: "0::/../other\n", file: "proc/7/root/sys/fs/cgroup/memory.events" },
  {
    name: "a container of version 1 beside this one",
    cgroup: "3:memory:/docker/abc\n",
    file: "proc/7/root/sys/fs/cgroup/memory/memory.oom_control",
  },
];

for (const { name, cgroup, file } of cases) {
  test(`${name} tells of its own kills, and what is killed elsewhere does not count`, async () => {
    await withMachine(cgroup, async ({ write, folder }) => {
      await write(file, "oom 1\noom_kill 1\n");
      const meter = createKillMeter("127.0.0.1:8000", { proc: join(folder, "proc"), cgroups: join(folder, "sys") });
      await using mark = await meter.mark();
      assert.equal(await mark.killed(), false);
      await write("proc/vmstat", `${"nr_other 5\n".repeat(900)}oom_kill 4\n`);
      assert.equal(await mark.killed(), false);
      await write(file, "oom 2\noom_kill 2\n");
      assert.equal(await mark.killed(), true);
      await using later = await meter.mark();
      assert.equal(await later.killed(), false);
      meter.renew();
      await write(file, "oom 3\noom_kill 3\n");
      assert.equal(await later.killed(), true, "what was marked before is still told");
      await using another = await meter.mark();
      assert.equal(await another.killed(), false);
      meter.renew();
    });
  });
}

test("where the group cannot be seen the machine's count does, and without any nothing is told", async () => {
  await withMachine("0::/../other\n", async ({ write, folder }) => {
    const meter = createKillMeter("127.0.0.1:8000", { proc: join(folder, "proc"), cgroups: join(folder, "sys") });
    await using mark = await meter.mark();
    assert.equal(await mark.killed(), false);
    await write("proc/vmstat", "oom_kill 4\n");
    assert.equal(await mark.killed(), true);
    meter.renew();
    await rm(join(folder, "proc/vmstat"));
    await using blind = await meter.mark();
    assert.equal(await blind.killed(), false);
    meter.renew();
  });
});

const script = `
const server = require("node:net").createServer().listen(0, "127.0.0.1", () => console.log(server.address().port));
const held = [];
process.stdin.on("data", () => { for (;;) held.push(Buffer.alloc(2 ** 20, 1)); });
`;

test("a process that the kernel kills in a bounded group, and one that somebody ends", async (context) => {
  await using group = await openMemoryGroup();
  // Where none can be made, its death is nobody's: only the count of the cases above tells then.
  context.diagnostic(group === undefined ? "no memory group here" : "in a memory group");
  const [command, ...args] = [...(group?.under ?? []), process.execPath, "-e", script];
  for (const how of group === undefined ? (["ended"] as const) : (["ended", "killed"] as const)) {
    const child = spawn(command ?? "", args, { stdio: ["pipe", "pipe", "inherit"] });
    const exited = once(child, "exit");
    const [port] = await once(child.stdout, "data");
    const meter = createKillMeter(`127.0.0.1:${String(port).trim()}`);
    await using mark = await meter.mark();
    if (how === "killed") {
      await group?.limit(32 * 2 ** 20);
      child.stdin.write("x");
    } else child.kill("SIGKILL");
    assert.deepEqual(await exited, [null, "SIGKILL"]);
    assert.equal(await mark.killed(), how === "killed", how);
    meter.renew();
  }
});
