import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type AcceleratorBudget, type MemoryUse, weigh } from "./accelerator.ts";

const budget: AcceleratorBudget = { capacityBytes: 1_000, acceleratorBytes: 250 };
const machine = (bytes: number): MemoryUse => ({ device: { kind: "machine" }, bytes });
const on = (id: string, bytes: number): MemoryUse => ({ device: { kind: "accelerator", id }, bytes });

test("a copy weighs what its scarcest memory asks", () => {
  assert.deepEqual(weigh([machine(300), machine(100), on("0", 50)], budget), { machineBytes: 400, leastBytes: 200 });
  assert.deepEqual(weigh([on("0", 100), on("1", 25), on("1", 25)], budget), { machineBytes: undefined, leastBytes: 400 });
  assert.deepEqual(weigh([on("0", 1), machine(1)], undefined), { machineBytes: 2, leastBytes: 0 });
  assert.deepEqual(weigh([], budget), { machineBytes: undefined, leastBytes: 0 });
});

test("what is within the capacity by weight is within every budget", () => {
  const use = fc.oneof(
    fc.nat(1_000).map(machine),
    fc.tuple(fc.constantFrom("0", "1"), fc.nat(300)).map(([id, bytes]) => on(id, bytes)),
  );
  fc.assert(
    fc.property(fc.array(fc.array(use, { maxLength: 4 }), { maxLength: 12 }), (models) => {
      let free = budget.capacityBytes;
      const held: MemoryUse[] = [];
      for (const uses of models) {
        const { machineBytes = 0, leastBytes } = weigh(uses, budget);
        const weight = Math.max(machineBytes, leastBytes);
        if (weight > free) continue;
        free -= weight;
        held.push(...uses);
      }
      const total = (id: string | undefined): number =>
        held.reduce(
          (sum, { device, bytes }) => ((device.kind === "machine" ? undefined : device.id) === id ? sum + bytes : sum),
          0,
        );
      assert.ok(total(undefined) <= budget.capacityBytes);
      for (const id of ["0", "1"]) assert.ok(total(id) <= budget.acceleratorBytes);
    }),
  );
});
