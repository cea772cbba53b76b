import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  activeRevision,
  findRevision,
  freeSlot,
  type Model,
  maxSlot,
  parseModel,
  parseModelName,
  parseRevision,
  parseServerName,
  serverName,
} from "./model.ts";

const alphabet = "ABCXYZabcxyz0189._-";
const word = fc
  .string({ unit: fc.constantFrom(...alphabet.split("")), minLength: 1, maxLength: 253 })
  .filter((text) => !text.startsWith("."));

/** Any UTF-16 code units, lone surrogates too. */
const anyText = fc.array(fc.nat(0xffff), { maxLength: 300 }).map((units) => String.fromCharCode(...units));

function rawRevision(slot: number): Record<string, unknown> {
  return { id: `r${slot}`, slot, format: "onnx", storageUri: `file:///models/${slot}`, sizeHintBytes: 1_000 };
}

function rawModel(slots: readonly number[]): Record<string, unknown> {
  return { name: "iris", revisions: slots.map(rawRevision), active: `r${slots[0]}` };
}

function mustParse(value: unknown): Model {
  const parsed = parseModel(value);
  assert.equal(parsed.kind, "ok", parsed.kind === "refused" ? parsed.reason : "");
  return (parsed as { model: Model }).model;
}

test("names in use elsewhere are taken", () => {
  for (const name of ["iris", "my-model__isvc-5d2f8b1a2c", "tenant-0001.iris", "A_b.C-9", "-x", "0", "a..b", "x".repeat(253)]) {
    assert.deepEqual(parseModelName(name), { kind: "ok", name });
  }
});

test("a refused name gets the precise reason", () => {
  const alphabetRule = "only A-Z a-z 0-9 . _ - are allowed";
  const table: [unknown, string][] = [
    ["", "a model name must not be empty"],
    [7, "a model name must be text"],
    [undefined, "a model name must be text"],
    [["iris"], "a model name must be text"],
    ["x".repeat(254), "a model name must have at most 253 characters, not 254"],
    [".", "a model name must not begin with a dot"],
    ["..", "a model name must not begin with a dot"],
    [".hidden", "a model name must not begin with a dot"],
    ["a/b", `a model name must not contain '/': ${alphabetRule}`],
    ["../etc", `a model name must not contain '/': ${alphabetRule}`],
    ["a%2Fb", `a model name must not contain '%': ${alphabetRule}`],
    ["iris~1", `a model name must not contain '~': ${alphabetRule}`],
    ["a b", `a model name must not contain a space: ${alphabetRule}`],
    ["a\n", `a model name must not contain U+000A: ${alphabetRule}`],
    ["a\0", `a model name must not contain U+0000: ${alphabetRule}`],
    ["modèle", `a model name must not contain U+00E8: ${alphabetRule}`],
    ["🦊", `a model name must not contain U+1F98A: ${alphabetRule}`],
    ["\ud800", `a model name must not contain U+D800: ${alphabetRule}`],
  ];
  for (const [name, reason] of table) assert.deepEqual(parseModelName(name), { kind: "refused", reason });
});

test("exactly the words of the alphabet are names, and they need no escaping", () => {
  fc.assert(
    fc.property(fc.oneof(word, anyText, fc.string({ maxLength: 10 })), (text) => {
      const parsed = parseModelName(text);
      const naive = text.length >= 1 && text.length <= 253 && text[0] !== "." && /^[A-Za-z0-9._-]*$/.test(text);
      assert.equal(parsed.kind === "ok", naive);
      if (naive) {
        assert.equal(encodeURIComponent(text), text);
        assert.equal(new URL(`http://h/v2/models/${text}/infer`).pathname, `/v2/models/${text}/infer`);
        assert.equal(JSON.stringify(text), `"${text}"`);
      } else assert.match((parsed as { reason: string }).reason, /^[ -~]{1,120}$/);
    }),
  );
});

test("server names go there and back, and nothing else is one", () => {
  fc.assert(
    fc.property(word, fc.integer({ min: 0, max: maxSlot }), (text, slot) => {
      const parsed = parseModelName(text);
      assert.ok(parsed.kind === "ok");
      assert.deepEqual(parseServerName(serverName(parsed.name, slot)), { kind: "ok", name: text, slot });
    }),
  );
  for (const other of [
    "a~",
    "a~0",
    "a~01",
    "a~16",
    "a~99",
    "a~100",
    "a~-1",
    "a~1.0",
    "a~1~1",
    "~1",
    "a~ 1",
    "a~１",
    "",
    "a/b~1",
    3,
  ]) {
    assert.equal(parseServerName(other).kind, "refused", String(other));
  }
});

test("two models never share a server name", () => {
  fc.assert(
    fc.property(word, word, fc.nat(maxSlot), fc.nat(maxSlot), (a, b, slotA, slotB) => {
      const [x, y] = [parseModelName(a), parseModelName(b)];
      assert.ok(x.kind === "ok" && y.kind === "ok");
      assert.equal(serverName(x.name, slotA) === serverName(y.name, slotB), a === b && slotA === slotB);
    }),
  );
});

test("a model is read, copied and frozen", () => {
  const raw = { ...rawModel([0, 3]), target: "r3", extra: "left out" };
  const model = mustParse(raw);
  assert.deepEqual(Object.keys(model), ["name", "revisions", "active", "target"]);
  assert.equal(activeRevision(model).slot, 0);
  assert.equal(findRevision(model, "r3")?.storageUri, "file:///models/3");
  assert.equal(findRevision(model, "r4"), undefined);
  assert.ok(Object.isFrozen(model) && Object.isFrozen(model.revisions) && model.revisions.every((one) => Object.isFrozen(one)));
  assert.deepEqual(mustParse(JSON.parse(JSON.stringify(model))), model);
});

test("hostile models are refused with the place and the reason", () => {
  const good = rawModel([0, 1]);
  const withRevision = (change: Record<string, unknown>): unknown => ({ ...good, revisions: [{ ...rawRevision(0), ...change }] });
  const table: [unknown, RegExp][] = [
    [null, /must be an object/],
    [[], /must be an object/],
    ["iris", /must be an object/],
    [{ ...good, name: "a/b" }, /must not contain '\/'/],
    [Object.create(good), /a model name must be text/],
    [{ ...good, revisions: [] }, /a list of 1 to 16/],
    [{ ...good, revisions: {} }, /a list of 1 to 16/],
    [{ ...good, revisions: Object.assign([], { length: 2 ** 31 }) }, /a list of 1 to 16/],
    [{ ...good, revisions: Object.assign([], { length: 2 }) }, /^revision 0: a revision must be an object$/],
    [{ ...good, revisions: Array.from({ length: 17 }, (_, slot) => rawRevision(slot)) }, /a list of 1 to 16/],
    [{ ...good, revisions: [rawRevision(0), { ...rawRevision(1), id: "r0" }] }, /^revision 1: its id is taken/],
    [{ ...good, revisions: [rawRevision(0), { ...rawRevision(1), slot: 0 }] }, /^revision 1: its slot is taken/],
    [{ ...good, active: "r9" }, /^active must be/],
    [{ ...good, active: undefined }, /^active must be/],
    [{ ...good, target: "r9" }, /^target must be the id/],
    [{ ...good, target: null }, /^target must be the id/],
    [{ ...good, target: "r0" }, /^target must be another/],
    [withRevision({ id: ".." }), /^revision 0: a revision id must not begin with a dot/],
    [withRevision({ slot: 16 }), /slot must be a whole number from 0 to 15/],
    [withRevision({ slot: -1 }), /slot must/],
    [withRevision({ slot: 0.5 }), /slot must/],
    [withRevision({ slot: "0" }), /slot must/],
    [withRevision({ format: "" }), /a format must not be empty/],
    [withRevision({ format: "x".repeat(64) }), /a format must have at most 63/],
    [withRevision({ storageUri: "" }), /must begin with its scheme/],
    [withRevision({ storageUri: "/etc/passwd" }), /must begin with its scheme/],
    [withRevision({ storageUri: "C:\\x" }), /must begin with its scheme/],
    [withRevision({ storageUri: "s3:" }), /must begin with its scheme/],
    [withRevision({ storageUri: `s3://${"x".repeat(2_048)}` }), /at most 2048 characters, not 2053/],
    [withRevision({ storageUri: "s3://a\r\nb" }), /must not contain U\+000D/],
    [withRevision({ storageUri: "s3://\ud800" }), /well-formed/],
    [withRevision({ sizeHintBytes: 0 }), /sizeHintBytes must/],
    [withRevision({ sizeHintBytes: Number.NaN }), /sizeHintBytes must/],
    [withRevision({ sizeHintBytes: 2 ** 51 }), /sizeHintBytes must/],
    [withRevision({ sizeHintBytes: null }), /sizeHintBytes must/],
  ];
  for (const [value, reason] of table) {
    const parsed = parseModel(value);
    assert.equal(parsed.kind, "refused");
    assert.match((parsed as { reason: string }).reason, reason);
  }
  assert.equal(parseRevision({ ...rawRevision(2), sizeHintBytes: undefined }).kind, "ok");
});

test("whatever comes in, the answer keeps the invariants and never throws", () => {
  const revision = fc.record({
    id: fc.oneof(fc.constantFrom("a", "b", "c"), fc.anything()),
    slot: fc.oneof(fc.nat(3), fc.anything()),
    format: fc.constantFrom("onnx", ""),
    storageUri: fc.constantFrom("s3://b/k", "nowhere"),
    sizeHintBytes: fc.oneof(fc.constant(undefined), fc.nat(), fc.double()),
  });
  const likely = fc.record({
    name: fc.constantFrom("m", "m/"),
    revisions: fc.array(revision, { maxLength: 4 }),
    active: fc.constantFrom("a", "b"),
    target: fc.constantFrom(undefined, "b", "c"),
  });
  fc.assert(
    fc.property(fc.oneof(likely, fc.anything()), (value) => {
      const parsed = parseModel(value);
      if (parsed.kind === "refused") {
        assert.match(parsed.reason, /^[ -~]{1,200}$/);
        return;
      }
      const { model } = parsed;
      assert.equal(activeRevision(model).id, model.active);
      assert.equal(new Set(model.revisions.map(({ id }) => id)).size, model.revisions.length);
      assert.equal(new Set(model.revisions.map(({ slot }) => slot)).size, model.revisions.length);
      if (model.target !== undefined) assert.ok(model.target !== model.active && findRevision(model, model.target) !== undefined);
    }),
    { numRuns: 500 },
  );
});

test("the free slot is the lowest that is free", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(maxSlot), { minLength: 1, maxLength: 16 }), (slots) => {
      const expected = Array.from({ length: 16 }, (_, slot) => slot).find((slot) => !slots.includes(slot));
      assert.equal(freeSlot(mustParse(rawModel(slots))), expected);
    }),
  );
});

test("a model that no parser made is a fault", () => {
  const model = mustParse(rawModel([0]));
  assert.throws(() => activeRevision({ ...model, revisions: [] }), RangeError);
});

const twoRevisions = (): Record<string, unknown> => rawModel([0, 1]);

test("options of models and revisions are kept, and left out where they say nothing", () => {
  const options = {
    split: [{ revision: "r1", percent: 10 }],
    mirror: { revision: "r1", percent: 100 },
    minCopies: 1,
    maxCopies: 3,
    pinned: true,
    priority: "high",
    tenant: "team-a",
    labels: { "app.kubernetes.io/name": "iris" },
  };
  const model = mustParse({ ...twoRevisions(), ...options });
  assert.deepEqual(JSON.parse(JSON.stringify(model)), { ...twoRevisions(), ...options });
  assert.deepEqual(Object.keys(mustParse({ ...rawModel([0]), split: [], labels: {} })), [
    "name",
    "revisions",
    "active",
    "target",
  ]);
  const revision = {
    ...rawRevision(0),
    formatVersion: "1",
    runtime: "mlserver",
    storageKey: "minio",
    storageParameters: { bucket: "b" },
    schemaPath: "schema.json",
    requiredLabels: { gpu: "yes" },
    preferredLabels: { zone: "a" },
  };
  const parsed = parseRevision(revision);
  assert.ok(parsed.kind === "ok");
  assert.deepEqual(JSON.parse(JSON.stringify(parsed.revision)), revision);
});

const badOptions: readonly (readonly [options: Record<string, unknown>, reason: RegExp])[] = [
  [{ split: [{ revision: "r0", percent: 10 }] }, /another one of the revisions/],
  [{ split: [{ revision: "r1", percent: 0 }] }, /percent/],
  [
    {
      split: [
        { revision: "r1", percent: 50 },
        { revision: "r1", percent: 50 },
      ],
    },
    /once/,
  ],
  [{ split: "r1" }, /list/],
  [{ mirror: { revision: "nope", percent: 1 } }, /mirror/],
  [{ minCopies: 3, maxCopies: 2 }, /more than maxCopies/],
  [{ maxCopies: 0 }, /maxCopies/],
  [{ minCopies: -1 }, /minCopies/],
  [{ pinned: "yes" }, /pinned/],
  [{ priority: "urgent" }, /priority/],
  [{ tenant: "a b" }, /tenant/],
  [{ labels: { a: 1 } }, /labels/],
  [{ labels: JSON.parse('{"__proto__":"x"}') as unknown }, /labels/],
  [{ labels: { a: "x\n" } }, /labels/],
];
for (const [options, reason] of badOptions) {
  test(`options that mean nothing are refused: ${JSON.stringify(options)}`, () => {
    const parsed = parseModel({ ...twoRevisions(), ...options });
    assert.ok(parsed.kind === "refused");
    assert.match(parsed.reason, reason);
  });
}

test("a schema lies inside the artefact's folder", () => {
  for (const schemaPath of ["/etc/passwd", "../x", "a/../../x", "", 1]) {
    assert.equal(parseRevision({ ...rawRevision(0), schemaPath }).kind, "refused");
  }
});
