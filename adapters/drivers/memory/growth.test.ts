import assert from "node:assert/strict";
import { test } from "node:test";
import { createGrowth, type Growth } from "./growth.ts";

/** A process that takes memory by the mebibyte, and reuses what was freed. */
function openProcess(growth: Growth) {
  const page = 2 ** 20;
  let usedBytes = 0;
  let heapBytes = 50 * page;
  const take = (bytes: number): void => {
    usedBytes += bytes;
    heapBytes = Math.max(heapBytes, 50 * page + Math.ceil(usedBytes / page) * page);
  };
  return {
    load(artefactBytes: number, sizeBytes: number, format = "sklearn"): number | undefined {
      growth.begin(heapBytes);
      take(sizeBytes);
      return growth.end({ bytes: heapBytes, format, artefactBytes, expectedBytes: 4 * artefactBytes });
    },
    unload(sizeBytes: number): void {
      usedBytes -= sizeBytes;
      growth.unloaded(sizeBytes);
    },
    library: () => take(70 * page),
  };
}

test("of many loads the size comes out, though the process grows by leaps and libraries came with the first", () => {
  const growth = createGrowth();
  const server = openProcess(growth);
  server.library();
  const told = Array.from({ length: 200 }, () => server.load(100_000, 170_000));
  assert.deepEqual(told.slice(0, 8), Array.from({ length: 8 }), "too little is known at first");
  const last = told.at(-1) ?? 0;
  assert.ok(last > 170_000 && last < 1.3 * 170_000, `${last}`);
});

test("memory that was freed and used again does not make models look small", () => {
  const growth = createGrowth();
  const server = openProcess(growth);
  for (let n = 0; n < 100; n++) server.load(100_000, 170_000);
  let last: number | undefined;
  for (let n = 0; n < 1_000; n++) {
    server.unload(170_000);
    last = server.load(100_000, 170_000);
  }
  assert.ok(last !== undefined && last > 170_000 && last < 1.3 * 170_000, `${last}`);
});

test("formats and sizes of artefacts are apart", () => {
  const growth = createGrowth();
  const server = openProcess(growth);
  for (let n = 0; n < 60; n++) {
    server.load(1_000_000, 9_000_000, "a");
    server.load(1_000_000, 2_000_000, "b");
    server.load(10_000, 1_000_000, "b");
  }
  for (const [format, artefactBytes, sizeBytes] of [
    ["a", 1_000_000, 9_000_000],
    ["b", 1_000_000, 2_000_000],
    ["b", 10_000, 1_000_000],
  ] as const) {
    const told = server.load(artefactBytes, sizeBytes, format) ?? 0;
    assert.ok(told > 0.95 * sizeBytes && told < 1.4 * sizeBytes, `${format} ${artefactBytes}: ${told}`);
  }
});

test("loads at the same time share what the process grew by; one beside an unload or a failure counts nothing", () => {
  const growth = createGrowth();
  let bytes = 0;
  const pair = (disturb?: () => void): number | undefined => {
    growth.begin(bytes);
    growth.begin(bytes);
    disturb?.();
    bytes += 600;
    growth.end({ bytes, format: "a", artefactBytes: 100, expectedBytes: 1 });
    return growth.end({ bytes, format: "a", artefactBytes: 200, expectedBytes: 1 });
  };
  pair();
  for (let n = 0; n < 20; n++) {
    assert.equal(
      pair(() => growth.unloaded(1)),
      undefined,
    );
    growth.begin(bytes);
    const begun = pair(() => growth.fail());
    assert.equal(begun, undefined);
  }
  let told: number | undefined;
  for (let n = 0; n < 20; n++) told = pair();
  assert.ok(told === 440 || told === 441, `${told}`);
});

test("a server started anew has no memory left over from the one before", () => {
  const growth = createGrowth();
  growth.unloaded(1e12);
  growth.reset();
  const server = openProcess(growth);
  const told = Array.from({ length: 20 }, () => server.load(100_000, 170_000));
  assert.notEqual(told.at(-1), undefined);
});
