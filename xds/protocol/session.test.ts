// The rules of the xDS protocol documentation on ACKs, NACKs and the order of responses, one by one. Those on subscriptions are in
// subscription.test.ts; what they add up to is in session.property.test.ts.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { typeUrls } from "./session.ts";
import { fixture, short } from "./testing.ts";

const { cluster, route, scope, endpoints } = typeUrls;

describe("nonces", () => {
  test("one response is in flight; changes meet in the next, the last version wins", () => {
    const f = fixture({ [scope]: { a: "1" } });
    f.request(scope);
    const first = f.one();
    f.set(scope, { a: "2" });
    f.set(scope, { a: "3", b: "1" });
    f.set(scope, { b: undefined });
    assert.deepEqual(f.sent(), []);
    assert.deepEqual(f.ack(first), [{ kind: "acked", typeUrl: scope, resources: [{ name: "a", version: "1" }] }]);
    assert.equal(short(f.one()), "a@3");
  });

  test("a stale nonce is no verdict, but its subscriptions count", () => {
    const f = fixture({ [route]: { a: "1", b: "1" } });
    f.request(route, { subscribe: ["a"] });
    const first = f.one();
    f.ack(first);
    f.set(route, { a: "2" });
    const second = f.one();
    assert.deepEqual(f.nack(first), []);
    assert.deepEqual(f.request(route, { responseNonce: "made up", subscribe: ["b"] }), []);
    assert.deepEqual(f.sent(), []);
    assert.equal(f.session.isLive(route, "a", "2"), false);
    f.ack(second);
    assert.equal(f.session.isLive(route, "a", "2"), true);
    assert.equal(short(f.one()), "b@1");
  });

  test("an ACK may carry subscriptions", () => {
    const f = fixture({ [route]: { a: "1", b: "1" } });
    f.request(route, { subscribe: ["a"] });
    f.ack(f.one(), { subscribe: ["b"] });
    assert.equal(short(f.one()), "b@1");
  });

  test("a change that was undone before it was sent is not sent", () => {
    const f = fixture({ [scope]: { a: "1" } });
    f.request(scope);
    f.ack(f.one());
    f.set(scope, { a: "2" });
    f.set(scope, { a: "1" });
    assert.deepEqual(f.sent(), []);
  });

  test("a name dropped while its response is under way is not live by that response's ACK", () => {
    const f = fixture({ [route]: { a: "1" } });
    f.request(route, { subscribe: ["a"] });
    const first = f.one();
    f.request(route, { unsubscribe: ["a"] });
    f.request(route, { subscribe: ["a"] });
    f.ack(first);
    assert.equal(f.session.isLive(route, "a", "1"), false);
    f.ack(f.one());
    assert.equal(f.session.isLive(route, "a", "1"), true);
  });

  test("a name dropped and then covered again while its response is under way is told anew", () => {
    const f = fixture({ [route]: { a: "1" } });
    f.request(route, { subscribe: ["a"] });
    const first = f.one();
    f.request(route, { unsubscribe: ["a"] });
    f.request(route, { subscribe: ["*"] });
    f.set(route, { a: undefined });
    f.ack(first);
    assert.equal(short(f.one()), "-a", "Envoy covered it when the response arrived");
  });

  test("what is unsubscribed is told as gone", () => {
    const f = fixture({ [route]: { a: "1" } });
    f.request(route, { subscribe: ["a"] });
    f.ack(f.one());
    assert.deepEqual(f.request(route, { unsubscribe: ["a"] }), [
      { kind: "acked", typeUrl: route, resources: [{ name: "a", version: undefined }] },
    ]);
  });

  test("a closed session is silent", () => {
    const f = fixture({ [scope]: { a: "1" } });
    f.request(scope);
    f.session.handle({ kind: "closed" });
    f.set(scope, { a: "2" });
    assert.deepEqual(f.request(scope), []);
    assert.deepEqual(f.sent(), []);
    assert.equal(f.session.isLive(scope, "a", "1"), false);
  });
});

describe("refusals", () => {
  test("a resource refused alone stays back until its version changes", () => {
    const f = fixture({ [scope]: { a: "1" } });
    f.request(scope);
    f.ack(f.one());
    f.set(scope, { a: "2" });
    assert.deepEqual(f.nack(f.one(), "no such filter"), [
      { kind: "nacked", typeUrl: scope, names: ["a"], message: "no such filter", final: true },
    ]);
    assert.deepEqual(f.session.refused(), [{ typeUrl: scope, name: "a", version: "2", message: "no such filter" }]);
    assert.equal(f.session.isLive(scope, "a", "1"), true);
    f.set(scope, { a: "2", b: "1" });
    const other = f.one();
    assert.equal(short(other), "b@1");
    f.ack(other);
    assert.equal(f.session.refused().length, 1);
    f.set(scope, { a: "3" });
    f.ack(f.one());
    assert.deepEqual(f.session.refused(), []);
    assert.equal(f.session.isLive(scope, "a", "3"), true);
  });

  test("after a refusal the former version is sent again: Envoy may have kept a part of the refused one", () => {
    const f = fixture({ [scope]: { a: "1" } });
    f.request(scope);
    f.ack(f.one());
    f.set(scope, { a: "2" });
    f.nack(f.one());
    f.set(scope, { a: "1" });
    assert.equal(short(f.one()), "a@1");
  });

  test("a refused resource that is gone is removed", () => {
    const f = fixture({ [scope]: { a: "1" } });
    f.request(scope);
    f.nack(f.one());
    f.set(scope, { a: undefined });
    f.ack(f.one());
    assert.deepEqual(f.session.refused(), []);
  });

  test("halves find the one bad resource of 1,000 in some twenty responses, and everything else goes on", () => {
    const names = Array.from({ length: 1_000 }, (_, index) => `s${index}`);
    const f = fixture({ [scope]: Object.fromEntries(names.map((name) => [name, "1"])) });
    f.request(scope);
    let responses = 0;
    for (let queue = f.sent(); queue.length > 0; queue = f.sent()) {
      for (const response of queue) {
        responses += 1;
        if (responses === 3) f.set(scope, { fresh: "1" });
        if (response.resources.some(({ name }) => name === "s617")) f.nack(response);
        else f.ack(response);
      }
    }
    assert.deepEqual(
      f.session.refused().map(({ name }) => name),
      ["s617"],
    );
    assert.ok(responses <= 23, `${responses} responses`);
    for (const name of names) assert.equal(f.session.isLive(scope, name, "1"), name !== "s617");
    assert.equal(f.session.isLive(scope, "fresh", "1"), true);
  });

  test("asking by name for a refused resource tries it once more", () => {
    const f = fixture({ [route]: { a: "1" } });
    f.request(route, { subscribe: ["a"] });
    f.nack(f.one());
    f.request(route, { subscribe: ["a"] });
    f.nack(f.one());
    assert.deepEqual(f.sent(), []);
  });
});

describe("flow", () => {
  const many = (count: number): Record<string, string> =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`n${index}`, "1"]));

  test("a full sync goes out in bounded responses, one after the other", () => {
    const f = fixture({ [scope]: many(100) }, { maxResponseBytes: 600 });
    f.request(scope);
    let responses = 0;
    for (let queue = f.sent(); queue.length > 0; queue = f.sent()) {
      assert.equal(queue.length, 1);
      assert.ok(queue[0]!.resources.length < 10);
      responses += 1;
      f.ack(queue[0]!);
    }
    assert.ok(responses > 10 && responses <= 50);
    for (const name of Object.keys(many(100))) assert.ok(f.session.isLive(scope, name, "1"));
  });

  test("a change does not wait behind a full sync", () => {
    const f = fixture({ [scope]: many(100) }, { maxResponseBytes: 600 });
    f.request(scope);
    const first = f.one();
    f.set(scope, { urgent: "1" });
    f.ack(first);
    assert.equal(f.one().resources[0]?.name, "urgent");
  });

  test("a resource larger than the limit goes alone", () => {
    const f = fixture({ [scope]: { a: "1", ["x".repeat(900)]: "1", b: "1" } }, { maxResponseBytes: 600 });
    f.request(scope);
    for (let left = 3; left > 0; left -= 1) {
      const response = f.one();
      assert.equal(response.resources.length, 1);
      f.ack(response);
    }
    assert.deepEqual(f.sent(), []);
  });

  test("clusters go before routes before scopes, whatever was told first", () => {
    const f = fixture();
    for (const type of [scope, route, cluster, endpoints]) f.request(type, { subscribe: ["*"] });
    for (const response of f.sent()) f.ack(response);
    f.set(scope, { s: "1" });
    f.set(route, { r: "1" });
    f.set(cluster, { c: "1" });
    const all = f.sent();
    assert.deepEqual(
      all.map(({ typeUrl }) => typeUrl),
      [cluster, route, scope],
    );
    f.ack(all[2]!);
    f.set(cluster, { d: "1" });
    f.set(scope, { t: "1" });
    f.set(endpoints, { e: "1" });
    assert.deepEqual(
      f.sent().map(({ typeUrl }) => typeUrl),
      [endpoints],
      "a scope may name the cluster that waits for an ACK",
    );
    f.ack(all[0]!);
    assert.deepEqual(f.sent().map(short), ["d@1", "t@1"]);
  });

  test("one change costs the same among 200,000 resources", () => {
    const costUs = (count: number): number => {
      const f = fixture({ [scope]: many(count) });
      f.request(scope);
      for (let queue = f.sent(); queue.length > 0; queue = f.sent()) for (const response of queue) f.ack(response);
      let best = Infinity;
      for (let round = 0; round < 300; round += 1) {
        f.set(scope, { n7: `${round}` });
        const startMs = performance.now();
        f.session.handle({ kind: "changed", typeUrl: scope, names: ["n7"] });
        f.ack(f.one());
        best = Math.min(best, (performance.now() - startMs) * 1_000);
      }
      return best;
    };
    const few = costUs(1_000);
    assert.ok(costUs(200_000) < few * 10 + 20);
  });
});

describe("what a change needs", () => {
  /** A scope's version is the name of the route configuration that it needs. */
  const opened = (initial: Record<string, Record<string, string>>) => {
    const scopes = new Map(Object.entries(initial[scope] ?? {}));
    const f = fixture(initial, {}, (typeUrl, name) => {
      const target = typeUrl === scope ? scopes.get(name) : undefined;
      return target === undefined ? undefined : { typeUrl: route, name: target };
    });
    const move = (changes: Record<string, string>): void => {
      for (const [name, target] of Object.entries(changes)) scopes.set(name, target);
      f.set(scope, changes);
    };
    return { ...f, move };
  };

  test("what Envoy has changes only when it has what it then needs; what is new to it goes at once", () => {
    const f = opened({ [scope]: { m: "old" }, [route]: { old: "1" } });
    f.request(scope);
    f.ack(f.one());
    f.request(route, { subscribe: ["old"] });
    f.ack(f.one());
    f.set(route, { next: "1" });
    f.move({ m: "next", "~next": "next", n: "next" });
    const response = f.one();
    assert.equal(short(response), "~next@next n@next");
    f.ack(response);
    assert.equal(f.session.isLive(scope, "m", "next"), false);
    f.request(route, { subscribe: ["next"] });
    const routes = f.one();
    assert.equal(short(routes), "next@1");
    assert.deepEqual(f.sent(), [], "it is not acknowledged yet");
    f.ack(routes);
    const moved = f.one();
    assert.equal(short(moved), "m@next");
    f.ack(moved);
    assert.ok(f.session.isLive(scope, "m", "next"));
  });

  test("what is held goes where it is to go when that has changed meanwhile, or goes away", () => {
    const f = opened({ [scope]: { m: "old", n: "old", o: "old" }, [route]: { old: "1", other: "1" } });
    f.request(scope);
    f.ack(f.one());
    f.request(route, { subscribe: ["old", "other"] });
    f.ack(f.one());
    f.move({ m: "next", n: "next", o: "next" });
    assert.deepEqual(f.sent(), []);
    f.move({ m: "other" });
    f.set(scope, { n: undefined });
    const response = f.one();
    assert.equal(short(response), "m@other -n");
    f.ack(response);
    f.move({ o: "old" });
    assert.deepEqual(f.sent(), [], "it has that");
    f.set(route, { next: "1" });
    f.request(route, { subscribe: ["next"] });
    f.ack(f.one());
    assert.deepEqual(f.sent(), []);
  });

  test("after a reconnect it is held until Envoy has said what routes it has", () => {
    const f = opened({ [scope]: { m: "next" }, [route]: { next: "1" } });
    f.request(scope, { initialResourceVersions: { m: "old" } });
    const first = f.one();
    assert.equal(short(first), "", "the wildcard is answered");
    f.ack(first);
    assert.deepEqual(f.sent(), []);
    f.request(route, { subscribe: ["next"], initialResourceVersions: { next: "1" } });
    assert.equal(short(f.one()), "m@next");
  });

  test("when Envoy refuses what is needed, what it has stays", () => {
    const f = opened({ [scope]: { m: "old" }, [route]: { old: "1", next: "1" } });
    f.request(scope);
    f.ack(f.one());
    f.request(route, { subscribe: ["old"] });
    f.ack(f.one());
    f.move({ m: "next" });
    f.request(route, { subscribe: ["next"] });
    f.nack(f.one());
    assert.deepEqual(f.sent(), []);
    f.set(route, { next: "2" });
    f.ack(f.one());
    assert.equal(short(f.one()), "m@next");
  });
});
