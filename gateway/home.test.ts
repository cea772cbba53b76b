import assert from "node:assert/strict";
import { test } from "node:test";
import { createHome, type Home } from "./home.ts";

const models = Array.from({ length: 3_000 }, (_, n) => `m${n}`);

function openFleet(ids: readonly string[], changes: string[] = []): { homes: Map<string, Home>; time: { nowMs: number } } {
  const time = { nowMs: 0 };
  const clock = { monotonicMs: () => time.nowMs };
  const onChange = ({ gatewayId }: { gatewayId: string }, there: boolean): void => void changes.push(`${gatewayId} ${there}`);
  const homes = new Map(ids.map((gatewayId) => [gatewayId, createHome({ gatewayId, clock, onChange })]));
  for (const home of homes.values())
    for (const gatewayId of ids) home.setMember({ gatewayId, incarnation: "1", peerAddress: `${gatewayId}:1` });
  return { homes, time };
}

const homeId = (homes: Map<string, Home>, asker: string, model: string): string =>
  homes.get(asker)?.of(model)?.gatewayId ?? asker;

test("all gateways name the same home for a model, and each is home for its share", () => {
  const { homes } = openFleet(["a", "b", "c"]);
  const counts = new Map<string, number>();
  for (const model of models) {
    const named = new Set(["a", "b", "c"].map((asker) => homeId(homes, asker, model)));
    assert.equal(named.size, 1);
    const [home = ""] = named;
    counts.set(home, (counts.get(home) ?? 0) + 1);
  }
  for (const count of counts.values()) assert.ok(count > 800 && count < 1_200, `${count}`);
});

test("a gateway that leaves hands over only the models whose home it was", () => {
  const { homes } = openFleet(["a", "b", "c"]);
  const before = models.map((model) => homeId(homes, "a", model));
  homes.get("a")?.removeMember("c");
  for (const [at, model] of models.entries()) {
    const now = homeId(homes, "a", model);
    if (before[at] !== "c") assert.equal(now, before[at]);
    else assert.notEqual(now, "c");
  }
});

test("a gateway that does not answer is passed over for a while, by all to the same next one", () => {
  const { homes, time } = openFleet(["a", "b", "c"]);
  const model = models.find((name) => homeId(homes, "a", name) === "c") ?? assert.fail();
  homes.get("a")?.suspect("c");
  homes.get("b")?.suspect("c");
  assert.notEqual(homeId(homes, "a", model), "c");
  assert.equal(homeId(homes, "a", model), homeId(homes, "b", model));
  time.nowMs = 2_000;
  assert.equal(homeId(homes, "a", model), "c");
});

test("alone, a gateway decides on everything", () => {
  const { homes } = openFleet(["a"]);
  assert.ok(models.every((model) => homes.get("a")?.isHere(model)));
});

test("changes are told once", () => {
  const changes: string[] = [];
  const { homes } = openFleet(["a", "b"], changes);
  assert.deepEqual(changes, ["b true", "a true"]);
  homes.get("a")?.setMember({ gatewayId: "b", incarnation: "1", peerAddress: "b:1" });
  homes.get("a")?.removeMember("b");
  homes.get("a")?.removeMember("b");
  assert.deepEqual(changes.slice(2), ["b false"]);
});
