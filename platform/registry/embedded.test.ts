import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { openRunFolder } from "../tempdir.ts";
import { waitFor } from "../testing.ts";
import { openEmbeddedRegistry } from "./embedded.ts";
import { openRegistry } from "./open.ts";
import { describeRegistry } from "./suite.ts";

const folder = await openRunFolder();
after(() => folder[Symbol.asyncDispose]());

describeRegistry({
  name: "embedded",
  open: (store) => openEmbeddedRegistry({ file: join(folder.path, store, "registry.db"), keepDeletions: 20 }),
  compact: async (registry) => {
    for (let at = 0; at < 50; at += 1) {
      await registry.put("/compact", String(at));
      await registry.delete("/compact");
    }
  },
});

test("a holder killed with -9 keeps what it wrote and loses its lease", async () => {
  const file = join(folder.path, "killed", "registry.db");
  const script = `
    import { openRegistry } from ${JSON.stringify(import.meta.resolve("./open.ts"))};
    const registry = await openRegistry({ kind: "embedded", file: ${JSON.stringify(file)} });
    const lease = await registry.openLease(300);
    await registry.put("/models/a", "lasting");
    await registry.put("/pods/a", "leased", { lease });
    console.log("written");
    for (let at = 0; ; at += 1) await registry.put("/models/busy", String(at));
  `;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  await using registry = await openRegistry({ kind: "embedded", file });
  assert.equal((await registry.get("/pods/a"))?.value, "leased");
  child.kill("SIGKILL");
  await once(child, "exit");
  await waitFor(async () => (await registry.get("/pods/a")) === undefined);
  assert.equal((await registry.get("/models/a"))?.value, "lasting");
  assert.equal((await registry.put("/models/b", "1")).kind, "ok");
});

test("a file that is no registry is refused in one sentence", async () => {
  const file = join(folder.path, "not-a-registry");
  writeFileSync(file, "something else, long enough to have a header of its own".repeat(20));
  await assert.rejects(openRegistry({ kind: "embedded", file }), {
    name: "StartupError",
    message: /not-a-registry cannot be used .*move it away/,
  });
});
