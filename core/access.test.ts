import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { anonymous, buildAccessRules, isPrincipal, type Policy, parsePolicy, parsePrincipal } from "./access.ts";
import { type Model, parseModel } from "./model.ts";

function model(name: string, more: Record<string, unknown> = {}): Model {
  const revision = { id: "r1", slot: 0, format: "onnx", storageUri: "file:///a" };
  const parsed = parseModel({ name, revisions: [revision], active: "r1", ...more });
  assert.ok(parsed.kind === "ok");
  return parsed.model;
}

function policy(name: string, callers: readonly string[], models: unknown = {}): Policy {
  const parsed = parsePolicy(name, { callers, models });
  assert.ok(parsed.kind === "ok", parsed.kind === "refused" ? parsed.reason : "");
  return parsed.policy;
}

const rules = buildAccessRules([
  policy("fraud", ["team-b", "spiffe://corp/ns/fraud"], { names: ["fraud-*", "risk"] }),
  policy("staff", ["authenticated"], { labels: { shared: "yes" } }),
  policy("demo", ["everybody"], { names: ["demo"], tenant: "team-a" }),
]);

const table: readonly (readonly [who: string, what: Model, outcome: string])[] = [
  ["team-a", model("own", { tenant: "team-a" }), "its tenant"],
  ["team-b", model("own", { tenant: "team-a" }), "permission-denied"],
  ["team-b", model("fraud-eu", { tenant: "team-a" }), "policy fraud"],
  ["team-b", model("risk"), "policy fraud"],
  ["team-b", model("risky"), "permission-denied"],
  ["spiffe://corp/ns/fraud", model("risk"), "policy fraud"],
  ["team-c", model("x", { labels: { shared: "yes" } }), "policy staff"],
  ["team-c", model("x", { labels: { shared: "no" } }), "permission-denied"],
  [anonymous, model("x", { labels: { shared: "yes" } }), "unauthenticated"],
  [anonymous, model("demo", { tenant: "team-a" }), "policy demo"],
  ["team-c", model("demo", { tenant: "team-a" }), "policy demo"],
  [anonymous, model("demo", { tenant: "team-b" }), "unauthenticated"],
  [anonymous, model("nobodys"), "unauthenticated"],
  // A tenant may be spelled like the word for nobody: it is nobody's all the same.
  [anonymous, model("odd", { tenant: "-" }), "unauthenticated"],
  // The words of policies are no principals that a caller could prove to be and gain by.
  ["everybody", model("own", { tenant: "team-a" }), "permission-denied"],
];
for (const [who, what, outcome] of table) {
  test(`${who} calls ${what.name} of ${what.tenant ?? "nobody"}: ${outcome}`, () => {
    const access = rules.decide(who, what);
    assert.equal(access.kind === "allowed" ? access.by : access.code, outcome);
  });
}

test("without policies only a model's own tenant gets through", () => {
  const none = buildAccessRules([]);
  fc.assert(
    fc.property(fc.constantFrom("a", "b", anonymous, "authenticated"), fc.constantFrom("a", "b", undefined), (who, tenant) => {
      const access = none.decide(who, model("m", tenant === undefined ? {} : { tenant }));
      assert.equal(access.kind === "allowed", who === tenant);
    }),
  );
});

const refusals: readonly unknown[] = [
  undefined,
  {},
  { callers: [] },
  { callers: "team-a" },
  { callers: ["-"] },
  { callers: ["a b"] },
  { callers: ["a"], models: { names: [] } },
  { callers: ["a"], models: { names: ["a/b"] } },
  { callers: ["a"], models: { names: ["*a"] } },
  { callers: ["a"], models: { labels: { a: 1 } } },
  { callers: ["a"], models: "all" },
];
for (const value of refusals) {
  test(`a policy that cannot be meant is refused: ${JSON.stringify(value)}`, () => {
    assert.equal(parsePolicy("p", value).kind, "refused");
  });
}

test("what proves nothing is no principal", () => {
  for (const text of ["", anonymous, "~", "a,b", "a b", "x".repeat(254), "é", "cert:team-a"])
    assert.equal(isPrincipal(text), false, text);
});

test("what Envoy tells is a principal, nobody, or nothing that can be meant", () => {
  const told = ["team-a", "cert:team-a", "-", "cert:-", "cert:a,b", "cert:", "~", "cert:~", "", "cert:cert:a"];
  assert.deepEqual(told.map(parsePrincipal), ["team-a", "team-a", "-", "-", ...Array(6).fill(undefined)]);
});
