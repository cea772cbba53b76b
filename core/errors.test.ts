import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { describeErrors, errorCatalogue, errorCodes, errorMessage, isErrorCode, WarmpathError } from "./errors.ts";

/** Any UTF-16 code units, lone surrogates too. */
const anyText = fc.array(fc.nat(0xffff), { maxLength: 2000 }).map((units) => String.fromCharCode(...units));

test("codes, reasons and sentences are well formed and never shared", () => {
  const reasons = new Set<string>();
  const sentences = new Set<string>();
  for (const code of errorCodes) {
    const { grpc, http, reason, says } = errorCatalogue[code];
    assert.match(code, /^[a-z]+(?:-[a-z]+)*$/);
    assert.match(reason, /^(?:[A-Z][a-z]+)+$/);
    assert.match(says, /^[A-Z][^|\n]*\.$/);
    assert.equal(reason.toLowerCase(), code.replaceAll("-", ""), "the reason is the code in CamelCase");
    assert.ok(grpc >= 1 && grpc <= 16 && Number.isInteger(grpc));
    assert.ok(http >= 400 && http <= 599 && Number.isInteger(http));
    reasons.add(reason);
    sentences.add(says);
  }
  assert.equal(reasons.size, errorCodes.length);
  assert.equal(sentences.size, errorCodes.length);
});

test("a request that can never succeed does not get a status that clients retry", () => {
  for (const code of errorCodes) {
    const { grpc, http, retry } = errorCatalogue[code];
    const invitesRetry = grpc === 14 || [429, 502, 503, 504].includes(http);
    assert.equal(invitesRetry && retry === "never", false, code);
    if (retry === "elsewhere") assert.equal(invitesRetry, true, code);
  }
});

test("the statuses that were chosen stay", () => {
  const chosen = Object.fromEntries(errorCodes.map((code) => [code, [errorCatalogue[code].grpc, errorCatalogue[code].http]]));
  assert.deepEqual(chosen, {
    "invalid-name": [3, 400],
    "invalid-request": [3, 400],
    "body-too-large": [8, 413],
    unauthenticated: [16, 401],
    "permission-denied": [7, 403],
    "unsupported-method": [12, 404],
    "method-not-allowed": [12, 405],
    "model-not-found": [5, 404],
    "revision-not-found": [5, 404],
    "pod-not-found": [5, 404],
    "already-exists": [6, 409],
    conflict: [10, 409],
    "precondition-failed": [9, 412],
    "model-load-failed": [9, 424],
    "storage-unavailable": [14, 503],
    "pod-failed": [14, 503],
    "no-capacity": [8, 503],
    "queue-full": [8, 429],
    "quota-exceeded": [8, 429],
    "no-pods": [14, 503],
    "no-runtime": [9, 503],
    "deadline-exceeded": [4, 504],
    cancelled: [1, 499],
    unavailable: [14, 503],
    "registry-unavailable": [14, 503],
    "registry-replaced": [9, 503],
    internal: [13, 500],
  });
});

test("isErrorCode knows the codes and nothing inherited", () => {
  assert.equal(isErrorCode("no-pods"), true);
  for (const other of ["", "toString", "__proto__", "NoPods"]) assert.equal(isErrorCode(other), false);
});

test("a WarmpathError carries code, retry and cause", () => {
  const cause = new Error("disk on fire");
  const error = new WarmpathError("storage-unavailable", "cannot read the artefact", { cause });
  assert.ok(error instanceof Error);
  assert.equal(error.name, "WarmpathError");
  assert.equal(error.code, "storage-unavailable");
  assert.equal(error.retry, "later");
  assert.equal(error.cause, cause);
  assert.equal(errorMessage(error), "cannot read the artefact: disk on fire");
  assert.equal("cause" in new WarmpathError("internal", "x"), false);
});

test("errorMessage gives one line from whatever was thrown", () => {
  const cyclic = new Error("a");
  cyclic.cause = cyclic;
  const table: [unknown, string][] = [
    ["text", "text"],
    ["", "unknown error"],
    [undefined, "undefined"],
    [new Error(""), "Error"],
    [new Error("two\n  lines"), "two lines"],
    [new Error("outer: inner", { cause: new Error("inner") }), "outer: inner"],
    [cyclic, "a"],
    [new AggregateError([new Error("no route"), new Error("refused")]), "no route; refused"],
    [{ message: "like an error" }, "like an error"],
    [Object.create(null), "unknown error"],
    [
      {
        get message(): string {
          throw new Error("hostile");
        },
      },
      "unknown error",
    ],
  ];
  for (const [thrown, line] of table) assert.equal(errorMessage(thrown), line);
});

test("errorMessage never throws, and is one bounded line", () => {
  fc.assert(
    fc.property(fc.anything({ withNullPrototype: true }), anyText, (thrown, text) => {
      for (const line of [errorMessage(thrown), errorMessage(new Error(text, { cause: thrown }))]) {
        assert.ok(line.length <= 1_000);
        assert.doesNotMatch(line, /[\r\n]/);
      }
    }),
  );
});

test("describeErrors has one row of seven cells for each code, in order", () => {
  const lines = describeErrors().trimEnd().split("\n");
  assert.equal(lines.length, errorCodes.length + 2);
  for (const line of lines) assert.equal(line.split("|").length, 9);
  assert.deepEqual(
    lines.slice(2).map((line) => /`(?<code>[a-z-]+)`/.exec(line)?.groups?.["code"]),
    errorCodes,
  );
  assert.ok(describeErrors().includes("| `queue-full` | RESOURCE_EXHAUSTED (8) | 429 | later | warn | `QueueFull` |"));
});
