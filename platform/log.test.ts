import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createLog } from "./log.ts";
import { openRunFolder } from "./tempdir.ts";

test("one JSON object a line, with keys, without secrets", async () => {
  await using folder = await openRunFolder();
  const file = join(folder.path, "log");
  {
    using log = createLog({ service: "gateway", level: "info", destination: { file } });
    log.debug("left out");
    log.with({ model: "a" }).info("model loaded", {
      tookMs: 5,
      headers: { authorization: "Bearer x", host: "h" },
      s3: { options: { secretKey: "x" } },
    });
    log.error("load failed", { error: new Error("disk full", { cause: new Error("ENOSPC") }) });
  }
  const lines = readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line): unknown => JSON.parse(line));
  assert.equal(lines.length, 2);
  const [first, second] = lines;
  assert.partialDeepStrictEqual(first, {
    level: "info",
    service: "gateway",
    msg: "model loaded",
    model: "a",
    tookMs: 5,
    headers: { authorization: "[redacted]", host: "h" },
    s3: { options: { secretKey: "[redacted]" } },
  });
  assert.match(JSON.stringify(second), /disk full.*ENOSPC/);
});
