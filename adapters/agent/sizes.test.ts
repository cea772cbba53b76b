import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createSizes, type SizeFacts } from "./sizes.ts";

const facts = (key: string, more: Partial<SizeFacts> = {}): SizeFacts => ({
  key,
  format: "onnx",
  sizeHintBytes: undefined,
  artefactBytes: undefined,
  ...more,
});

describe("sizes", () => {
  test("needs the artefact's bytes when there is nothing else, and guesses with caution", () => {
    const sizes = createSizes();
    assert.equal(sizes.predict(facts("a"), 0), undefined);
    assert.equal(sizes.predict(facts("a", { artefactBytes: 1_000 }), 0), 4_000 + 131_072);
    assert.equal(sizes.predict(facts("a", { artefactBytes: 0 }), 0), 131_072);
  });

  test("believes what was measured before the hint, and the hint before what was learned", () => {
    const sizes = createSizes();
    assert.equal(sizes.predict(facts("a", { sizeHintBytes: 700, artefactBytes: 1_000 }), 0), 700);
    sizes.learn(facts("a", { sizeHintBytes: 700 }), 900);
    assert.equal(sizes.predict(facts("a", { sizeHintBytes: 700 }), 0), 900);
    assert.equal(sizes.predict(facts("b", { sizeHintBytes: 700 }), 0), 700);
  });

  test("believes the model server's own guess before what was learned, and after the hint", () => {
    const sizes = createSizes();
    assert.equal(
      sizes.predict({ key: "a", format: "f", sizeHintBytes: undefined, artefactBytes: 10, predictedBytes: 70 }, 0),
      70,
    );
    assert.equal(sizes.predict({ key: "a", format: "f", sizeHintBytes: 50, artefactBytes: 10, predictedBytes: 70 }, 0), 50);
  });

  test("learns a high ratio of the recent ones, for artefacts of like size and format", () => {
    const sizes = createSizes();
    for (let n = 1; n <= 10; n++) sizes.learn(facts(`m${n}`, { artefactBytes: 1_000 }), n * 1_000);
    assert.equal(sizes.predict(facts("x", { artefactBytes: 1_000 }), 0), 9_000);
    assert.equal(sizes.predict(facts("x", { artefactBytes: 30_000_000 }), 0), 120_131_072);
    assert.equal(sizes.predict(facts("x", { artefactBytes: 1_000, format: "other" }), 0), 4_000 + 131_072);
    for (let n = 0; n < 40; n++) sizes.learn(facts(`later${n}`, { artefactBytes: 1_000 }), 2_000);
    assert.equal(sizes.predict(facts("x", { artefactBytes: 1_000 }), 0), 2_000);
  });

  test("forgets the oldest, not the newest, beyond its bound", () => {
    const sizes = createSizes();
    for (let n = 0; n <= 16_384; n++) sizes.learn(facts(`m${n}`), n);
    assert.equal(sizes.predict(facts("m0"), 0), undefined);
    assert.equal(sizes.predict(facts("m16384"), 0), 16_384);
    for (let n = 0; n < 100; n++) {
      for (let k = 0; k < 4; k++) sizes.learn(facts(`f${n}${k}`, { format: `f${n}`, artefactBytes: 10 }), 20);
    }
    assert.equal(sizes.predict(facts("x", { format: "f99", artefactBytes: 10 }), 0), 20);
    assert.equal(sizes.predict(facts("x", { format: "f0", artefactBytes: 10 }), 0), 40 + 131_072);
  });
});
