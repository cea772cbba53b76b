// The rules of the xDS protocol documentation on what a client subscribes to, one by one, over reconnections too.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { typeUrls } from "./session.ts";
import { fixture, short } from "./testing.ts";

const { cluster, route, scope } = typeUrls;

describe("subscriptions", () => {
  test("an empty first list is the wildcard, for types of either sort", () => {
    for (const type of [cluster, route]) {
      const f = fixture({ [type]: { a: "1", b: "1" } });
      f.request(type);
      assert.equal(short(f.one()), "a@1 b@1");
    }
  });

  test("the wildcard is answered at once when it matches nothing", () => {
    const f = fixture();
    f.request(cluster);
    const answer = f.one();
    assert.equal(short(answer), "");
    assert.deepEqual(f.ack(answer), []);
    assert.deepEqual(f.sent(), []);
  });

  test("a later empty list is not the wildcard", () => {
    const f = fixture({ [route]: { a: "1", b: "1" } });
    f.request(route, { subscribe: ["a"] });
    f.ack(f.one(), { unsubscribe: ["a"] });
    f.request(route);
    assert.deepEqual(f.sent(), []);
  });

  test("only what is subscribed is sent", () => {
    const f = fixture({ [route]: { a: "1", b: "1" } });
    f.request(route, { subscribe: ["a"] });
    f.ack(f.one());
    f.set(route, { b: "2" });
    assert.deepEqual(f.sent(), []);
    f.set(route, { a: "2", b: "3" });
    assert.equal(short(f.one()), "a@2");
  });

  test("a name that does not exist is answered once as removed, and sent when it appears", () => {
    const f = fixture();
    f.request(route, { subscribe: ["a"] });
    const answer = f.one();
    assert.equal(short(answer), "-a");
    assert.deepEqual(f.ack(answer), [{ kind: "acked", typeUrl: route, resources: [{ name: "a", version: undefined }] }]);
    assert.deepEqual(f.sent(), []);
    f.set(route, { a: "1" });
    assert.equal(short(f.one()), "a@1");
  });

  test("the explicit wildcard, with a name beside it that does not exist", () => {
    const f = fixture({ [cluster]: { a: "1" } });
    f.request(cluster, { subscribe: ["*", "x"] });
    assert.equal(short(f.one()), "a@1 -x");
  });

  test("naming the wildcard after the legacy one continues it, whatever the order", () => {
    for (const subscribe of [["*", "x"], ["x", "*"], ["*"]]) {
      const f = fixture({ [cluster]: { a: "1" } });
      f.request(cluster);
      f.ack(f.one());
      f.request(cluster, { subscribe });
      assert.deepEqual(f.sent().map(short), subscribe.length === 1 ? [] : ["-x"]);
      f.set(cluster, { b: "1" });
      f.sent();
    }
  });

  test("a name subscribed after the legacy wildcard leaves the wildcard in place", () => {
    const f = fixture({ [cluster]: { a: "1", b: "1" } });
    f.request(cluster);
    f.ack(f.one());
    f.request(cluster, { subscribe: ["a"] });
    f.ack(f.one());
    f.set(cluster, { b: "2" });
    assert.equal(short(f.one()), "b@2");
  });

  test("the wildcard asked for again sends everything again", () => {
    const f = fixture({ [cluster]: { a: "1" } });
    f.request(cluster, { subscribe: ["*"] });
    f.ack(f.one());
    f.request(cluster, { subscribe: ["*"] });
    assert.equal(short(f.one()), "a@1");
  });

  test("a name subscribed again is sent again, even if it was not dropped in between", () => {
    const f = fixture({ [route]: { a: "1" } });
    f.request(route, { subscribe: ["a"] });
    f.ack(f.one());
    f.request(route, { subscribe: ["a"] });
    f.ack(f.one());
    f.request(route, { unsubscribe: ["a"] });
    f.request(route, { subscribe: ["a"] });
    assert.equal(short(f.one()), "a@1");
  });

  test("what is unsubscribed is not sent and no longer live", () => {
    const f = fixture({ [route]: { a: "1", b: "1" } });
    f.request(route, { subscribe: ["a", "b"] });
    f.ack(f.one(), { unsubscribe: ["a", "never named"] });
    assert.equal(f.session.isLive(route, "a", "1"), false);
    assert.equal(f.session.isLive(route, "b", "1"), true);
    f.set(route, { a: "2" });
    assert.deepEqual(f.sent(), []);
  });

  test("a name unsubscribed beside the wildcard is answered with what the wildcard has of it", () => {
    const f = fixture({ [cluster]: { a: "1" } });
    f.request(cluster, { subscribe: ["*", "a", "x"] });
    f.ack(f.one());
    f.request(cluster, { unsubscribe: ["a", "x"] });
    assert.equal(short(f.one()), "a@1 -x");
  });

  test("without the wildcard only the names are left", () => {
    const f = fixture({ [cluster]: { a: "1", b: "1" } });
    f.request(cluster, { subscribe: ["*", "a"] });
    f.ack(f.one());
    f.request(cluster, { unsubscribe: ["*"] });
    f.set(cluster, { a: "2", b: "2", c: "1" });
    assert.equal(short(f.one()), "a@2");
    assert.equal(f.session.isLive(cluster, "b", "1"), false);
  });

  test("types do not mix", () => {
    const f = fixture({ [route]: { a: "1" }, [scope]: { a: "9" } });
    f.request(route, { subscribe: ["a"] });
    f.set(scope, { a: "10" });
    const answer = f.one();
    assert.equal(answer.typeUrl, route);
    f.request(scope);
    const other = f.one();
    f.request(scope, { responseNonce: answer.nonce });
    assert.equal(f.session.isLive(route, "a", "1"), false);
    f.ack(other);
    assert.equal(f.session.isLive(scope, "a", "10"), true);
  });
});

describe("reconnect", () => {
  test("only what differs is sent, and what is gone is removed", () => {
    const f = fixture({ [scope]: { same: "1", newer: "2", fresh: "1" } });
    const effects = f.request(scope, { initialResourceVersions: { same: "1", newer: "1", gone: "1" } });
    assert.deepEqual(effects, [
      {
        kind: "acked",
        typeUrl: scope,
        resources: [
          { name: "same", version: "1" },
          { name: "newer", version: "1" },
          { name: "gone", version: "1" },
        ],
      },
    ]);
    assert.equal(f.session.isLive(scope, "same", "1"), true);
    assert.equal(short(f.one()), "newer@2 fresh@1 -gone");
  });

  test("names with a version are not sent again by being named, names without are", () => {
    const f = fixture({ [route]: { a: "1", b: "1" } });
    f.request(route, { subscribe: ["a", "b", "x", "gone"], initialResourceVersions: { a: "1", gone: "1", foreign: "1" } });
    assert.equal(short(f.one()), "b@1 -x -gone");
    assert.equal(f.session.isLive(route, "foreign", "1"), false);
  });

  test("an unchanged wildcard is answered empty", () => {
    const f = fixture({ [cluster]: { a: "1" } });
    f.request(cluster, { initialResourceVersions: { a: "1" } });
    assert.equal(short(f.one()), "");
  });

  test("versions are heeded in the first request only", () => {
    const f = fixture({ [route]: { a: "1" } });
    f.request(route, { subscribe: ["x"] });
    f.ack(f.one());
    f.request(route, { subscribe: ["a"], initialResourceVersions: { a: "1" } });
    assert.equal(short(f.one()), "a@1");
  });
});
