import assert from "node:assert/strict";
import { test } from "node:test";
import { array, assert as assertProperty, nat, property, string } from "fast-check";
import { createLineCutter } from "./lines.ts";

test("lines come out whole, however the bytes were cut", () => {
  assertProperty(
    property(
      array(string({ unit: "grapheme", maxLength: 20 }).map((text) => text.replaceAll(/[\r\n]/g, ""))),
      array(nat(50)),
      (texts, cuts) => {
        const bytes = Buffer.from(texts.map((text) => `${text}\n`).join(""));
        const found: string[] = [];
        const cutter = createLineCutter((line) => found.push(line));
        let from = 0;
        for (const cut of cuts) {
          cutter.push(bytes.subarray(from, from + cut));
          from += cut;
        }
        cutter.push(bytes.subarray(from));
        cutter.end();
        assert.deepEqual(found, texts);
      },
    ),
  );
});

test("an endless line is cut; the last one needs no end", () => {
  const found: number[] = [];
  const cutter = createLineCutter((line) => found.push(line.length));
  cutter.push(Buffer.from("x".repeat(40_000)));
  assert.deepEqual(found, [16_384, 16_384]);
  cutter.end();
  assert.deepEqual(found, [16_384, 16_384, 7_232]);
});
