// The real client libraries that users have, unchanged, against a whole fleet.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openFleet } from "../harness/fleet.ts";
import { clientPython, runCases } from "./environment.ts";

const scripts = ["triton_clients.py", "kserve_clients.py"];

test("stock clients", { timeout: 230_000 }, async (context) => {
  const python = await clientPython();
  await using fleet = await openFleet();
  const target = new URL(fleet.restUrl).host;
  for (const script of scripts) {
    const results = await runCases(python, script, [target, fleet.grpcTarget]);
    for (const { case: name, ok, saw } of results) {
      await context.test(`${script}: ${name}`, () => assert.ok(ok, saw ?? "it failed without a word"));
    }
    assert.ok(results.length > 10, `${script} told of only ${results.length} cases`);
  }
});
