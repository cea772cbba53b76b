// How much one tenant may take: parsing, whose limits count, and the decisions.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { anonymous } from "./access.ts";
import {
  buildQuotaRules,
  bytesLeftFor,
  checkParked,
  isUntouched,
  type LoadAllowance,
  limitNames,
  parseQuota,
  type Quota,
  type QuotaLimits,
  takeLoad,
  trimPods,
} from "./quota.ts";

function quota(tenants: readonly string[], limits: QuotaLimits): Quota {
  const parsed = parseQuota("q", { tenants, ...limits });
  assert.ok(parsed.kind === "ok", JSON.stringify(parsed));
  return parsed.quota;
}

describe("a quota", () => {
  const bad: Readonly<Record<string, unknown>> = {
    "no object": [],
    "without tenants": { requestsPerSecond: 1 },
    "no tenant": { tenants: [] },
    "a tenant that can be none": { tenants: ["a b"] },
    "a tenant that is nobody": { tenants: [anonymous] },
    "what stands before a certificate's name": { tenants: ["cert:a"] },
    "no request at all": { tenants: ["a"], requestsPerSecond: 0 },
    "half a request": { tenants: ["a"], requestsPerSecond: 0.5 },
    "a text": { tenants: ["a"], warmBytes: "1" },
    "less than nothing": { tenants: ["a"], parkedRequests: -1 },
    "a burst of nothing": { tenants: ["a"], burst: 5 },
    inherited: Object.create({ tenants: ["a"] }),
  };
  for (const [name, value] of Object.entries(bad)) {
    test(`is refused: ${name}`, () => assert.equal(parseQuota("q", value).kind, "refused"));
  }

  test("of any value is refused or read, and never throws", () => {
    fc.assert(
      fc.property(fc.anything(), fc.anything(), (name, value) => {
        const parsed = parseQuota(name, value);
        if (parsed.kind === "refused") assert.ok(parsed.reason.length < 300);
        else assert.deepEqual(parseQuota(parsed.quota.name, { tenants: parsed.quota.tenants, ...parsed.quota.limits }), parsed);
      }),
    );
  });
});

describe("whose limits count", () => {
  test("the least of those that name a tenant; else those of everybody of its kind", () => {
    const rules = buildQuotaRules([
      quota(["a", "b"], { requestsPerSecond: 10, parkedRequests: 3 }),
      quota(["a"], { requestsPerSecond: 5, burst: 50 }),
      quota(["authenticated"], { requestsPerSecond: 1, warmBytes: 7 }),
      quota(["anonymous"], { loadsUnderWay: 1 }),
    ]);
    assert.deepEqual(rules.of("a"), { requestsPerSecond: 5, burst: 50, parkedRequests: 3 });
    assert.deepEqual(rules.of("b"), { requestsPerSecond: 10, parkedRequests: 3 });
    assert.deepEqual(rules.of("c"), { requestsPerSecond: 1, warmBytes: 7 });
    assert.deepEqual(rules.of(anonymous), { loadsUnderWay: 1 });
    assert.ok(rules.limits("warmBytes") && !rules.limits("loadsPerMinute"));
  });

  test("nobody is held to anything without a quota", () => {
    const rules = buildQuotaRules([]);
    for (const tenant of ["a", anonymous]) assert.deepEqual(rules.of(tenant), {});
    assert.ok(limitNames.every((name) => !rules.limits(name)));
  });

  test("the order of quotas does not matter", () => {
    const limits = fc.record({ requestsPerSecond: fc.integer({ min: 1, max: 9 }), warmBytes: fc.nat(9) }, { requiredKeys: [] });
    const quotas = fc.array(fc.tuple(fc.constantFrom("a", "b", "authenticated", "anonymous"), limits), { maxLength: 6 });
    fc.assert(
      fc.property(quotas, (given) => {
        const all = given.map(([tenant, of]) => quota([tenant], of));
        const [one, other] = [buildQuotaRules(all), buildQuotaRules(all.toReversed())];
        for (const tenant of ["a", "b", "c", anonymous]) assert.deepEqual(one.of(tenant), other.of(tenant));
      }),
    );
  });
});

describe("waits and loads", () => {
  test("as many wait as may, and one more is told when to come again", () => {
    assert.equal(checkParked({}, 1e9), undefined);
    assert.equal(checkParked({ parkedRequests: 2 }, 1), undefined);
    const over = checkParked({ parkedRequests: 2 }, 2);
    assert.equal(over?.quota, "parked");
    assert.ok((over?.retryAfterMs ?? 0) > 0);
    assert.equal(checkParked({ parkedRequests: 0 }, 0)?.quota, "parked");
  });

  test("so many loads are under way and no more", () => {
    assert.equal(takeLoad({ loadsUnderWay: 1 }, 0, undefined, 0).kind, "ok");
    const over = takeLoad({ loadsUnderWay: 1 }, 1, undefined, 0);
    assert.ok(over.kind === "over" && over.quota === "loads");
  });

  test("in any stretch of time no more loads start than the minute's quota and what it gives in that time", () => {
    const times = fc.array(fc.nat(20_000), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(fc.nat(50), times, (perMinute, pauses) => {
        let allowance: LoadAllowance | undefined;
        let nowMs = 0;
        const started: number[] = [];
        for (const pauseMs of pauses) {
          nowMs += pauseMs;
          const taken = takeLoad({ loadsPerMinute: perMinute }, 0, allowance, nowMs);
          if (taken.kind === "over") {
            assert.ok(taken.retryAfterMs >= 1 && taken.retryAfterMs <= 60_001);
            continue;
          }
          allowance = taken.allowance;
          started.push(nowMs);
        }
        for (let from = 0; from < started.length; from++) {
          const spanMs = (started.at(-1) ?? 0) - (started[from] ?? 0);
          assert.ok(started.length - from <= perMinute + (spanMs * perMinute) / 60_000 + 1e-6);
        }
        if (allowance !== undefined) assert.ok(isUntouched({ loadsPerMinute: perMinute }, allowance, nowMs + 60_000));
      }),
    );
  });
});

describe("warm bytes", () => {
  test("what is left on a pod is what the tenant has not elsewhere", () => {
    assert.equal(bytesLeftFor({}, 10), undefined);
    assert.equal(bytesLeftFor({ warmBytes: 10 }, 4), 6);
    assert.equal(bytesLeftFor({ warmBytes: 10 }, 40), 0);
  });

  test("a tenant that has too much is brought down to its quota, on as few pods as that takes", () => {
    const pods = fc.array(fc.nat(100), { maxLength: 8 }).map((sizes) => sizes.map((bytes, at) => [`p${at}`, bytes] as const));
    fc.assert(
      fc.property(fc.nat(300), pods, (warmBytes, there) => {
        const total = there.reduce((sum, [, bytes]) => sum + bytes, 0);
        const kept = trimPods({ warmBytes }, total, there);
        const after = there.reduce((sum, [podId, bytes]) => sum + (kept.get(podId) ?? bytes), 0);
        assert.equal(after, Math.min(total, warmBytes));
        assert.ok([...kept.values()].filter((bytes) => bytes > 0).length <= 1);
      }),
    );
  });
});
