import assert from "node:assert/strict";
import { test } from "node:test";
import { createHitCount, type HitReading } from "./hitcount.ts";

const of = (requests: number, asked: number): HitReading => ({ requests, asked });

const cases: readonly { readonly name: string; readonly readings: readonly HitReading[]; readonly hits: number | undefined }[] = [
  { name: "an Envoy that outlived the gateway before this one", readings: [of(5_000, 10), of(5_030, 12)], hits: 28 },
  { name: "an Envoy that comes after the gateway", readings: ["absent", of(30, 2)], hits: 28 },
  { name: "an Envoy that did not say what it had counted", readings: [undefined, of(5_000, 10), of(5_030, 12)], hits: 28 },
  { name: "an Envoy that is started anew", readings: ["absent", of(100, 10), of(20, 5)], hits: 105 },
  { name: "an Envoy that is away for a while", readings: ["absent", of(100, 10), "absent", undefined, of(110, 10)], hits: 100 },
  {
    name: "requests that Envoy asks about a moment later",
    readings: ["absent", of(100, 10), of(100, 12), of(101, 12)],
    hits: 89,
  },
  { name: "nothing yet", readings: ["absent"], hits: undefined },
];

for (const { name, readings, hits } of cases) {
  test(`hits since the gateway began: ${name}`, () => {
    const count = createHitCount();
    assert.equal(readings.map((reading) => count.read(reading)).at(-1), hits);
  });
}
