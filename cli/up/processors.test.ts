import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import * as fc from "fast-check";
import { UsageError } from "#platform/lifecycle.ts";
import { allowedProcessors, divideProcessors, onProcessors, parseProcessors } from "./processors.ts";

const execute = promisify(execFile);

test("a list of processors is read as Linux writes it", () => {
  assert.deepEqual(parseProcessors("0"), [0]);
  assert.deepEqual(parseProcessors("0-2,5"), [0, 1, 2, 5]);
  assert.deepEqual(parseProcessors("7,3-4,3"), [3, 4, 7]);
  for (const wrong of ["", ",", "-1", "1-", "2-1", "a", "0,", "0x1", "1.5", "4096", "99999", " 1", "0--1"])
    assert.equal(parseProcessors(wrong), undefined, wrong);
});

test("whatever is read as a list is in order, without repetition and within bounds", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9,-]{0,20}$/)), (text) => {
      const found = parseProcessors(text);
      if (found === undefined) return;
      assert.ok(found.length > 0 && found.every((each, at) => each < 4_096 && each > (found[at - 1] ?? -1)));
    }),
  );
});

test("hits get what they are given, the others the rest", () => {
  assert.deepEqual(divideProcessors([0, 2], [0, 1, 2, 3]), { hits: [0, 2], others: [1, 3] });
  assert.throws(
    () => divideProcessors([0, 4, 5], [0, 1]),
    (error) => error instanceof UsageError && /4, 5/.test(error.message),
  );
  assert.throws(() => divideProcessors([0, 1], [0, 1]), UsageError);
});

test("a program runs where it is told to, and anywhere when it is not", async () => {
  const own = await allowedProcessors();
  const [first = 0] = own;
  const allowed = async (processors: readonly number[] | undefined): Promise<readonly number[] | undefined> => {
    const script = 'sed -n "s/^Cpus_allowed_list:\\t//p" /proc/self/status';
    const { command, args } = await onProcessors({ command: "sh", args: ["-c", script] }, processors);
    return parseProcessors((await execute(command, [...args])).stdout.trim());
  };
  assert.deepEqual(await allowed([first]), [first]);
  assert.deepEqual(await allowed(undefined), own);
});
