import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { parseModelName } from "#core/model.ts";
import { type Patience, patienceMs } from "#core/patience.ts";
import { ClusterSchema } from "#proto/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { RouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/route_pb.ts";
import { ScopedRouteConfigurationSchema } from "#proto/gen/envoy/config/route/v3/scoped_route_pb.ts";
import { HttpProtocolOptionsSchema } from "#proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import { createResourceCheck } from "./check.ts";
import { sweepMs } from "./sets.ts";
import { createRouteTable, type RouteLeg, type RouteTable, type RouteTarget } from "./table.ts";
import { typeUrls } from "./typeurls.ts";

const podNames = ["a", "b", "c"];

function pod(podId: string, port = 9_000) {
  return { podId, rest: { host: "127.0.0.1", port }, grpc: { host: "127.0.0.1", port: port + 1 } };
}

function openTable(): { table: RouteTable; changed: string[] } {
  const changed: string[] = [];
  const table = createRouteTable(
    (typeUrl, names) => changed.push(...names.map((name) => `${typeUrl.split(".").at(-1)} ${name}`)),
    createResourceCheck(),
  );
  return { table, changed };
}

/** The pods that a scope leads to, read from what would be sent to Envoy. */
function podsOf(table: RouteTable, model: string): string[] | undefined {
  const scope = table.get(typeUrls.scope, model);
  if (scope === undefined) return undefined;
  const { routeConfigurationName } = fromBinary(ScopedRouteConfigurationSchema, scope.bytes);
  assert.ok(table.get(typeUrls.routes, routeConfigurationName), "a scope names a route configuration that is there");
  return [routeConfigurationName];
}

test("the first model of a pod changes one resource: all else is there since the pod came", () => {
  const { table, changed } = openTable();
  table.setPod(pod("a"));
  changed.length = 0;
  table.setModel("iris", { slot: 0, podIds: ["a"] });
  assert.deepEqual(changed, ["ScopedRouteConfiguration iris"]);
});

test("a change costs the same with 10 models as with 10,000", () => {
  for (const count of [10, 10_000]) {
    const { table, changed } = openTable();
    for (const name of podNames) table.setPod(pod(name));
    for (let i = 0; i < count; i++) table.setModel(`m${i}`, { slot: 0, podIds: ["a"] });
    changed.length = 0;
    table.setModel("m5", { slot: 0, podIds: ["b"] });
    assert.deepEqual(changed, ["ScopedRouteConfiguration m5"]);
  }
});

test("names and versions do not depend on what happened before", () => {
  const one = openTable().table;
  const two = openTable().table;
  for (const name of ["a", "b", "c"]) one.setPod(pod(name));
  for (const name of ["c", "b", "a"]) two.setPod(pod(name));
  two.setModel("x", { slot: 0, podIds: ["c"] });
  one.setModel("x", { slot: 1, podIds: ["b", "a"] });
  two.setModel("x", { slot: 1, podIds: ["a", "b", "b"] });
  assert.deepEqual(one.wanted("x"), two.wanted("x"));
});

test("no model's name is the key of an entry", () => {
  const { table } = openTable();
  table.setPod(pod("a"));
  const keys = [...table.names(typeUrls.scope)];
  assert.equal(keys.length, 2, "the pod's own set and the server's own scope");
  for (const key of keys) assert.equal(parseModelName(key).kind, "refused");
  assert.equal(
    table.entry("a", 0),
    keys.find((key) => key.startsWith("~")),
  );
  assert.equal(table.entry("b", 0), undefined);
});

test("a set without models leaves in order: scopes first, then what they name", () => {
  const { table, changed }: { table: RouteTable; changed: string[] } = openTable();
  table.setPod(pod("a"));
  table.setPod(pod("b"));
  table.setModel("x", { slot: 0, podIds: ["a", "b"] });
  table.setModel("x", undefined);
  changed.length = 0;
  table.sweep(() => false);
  assert.equal(changed.length, 0, "it may be wanted again at once");
  table.sweep(() => false);
  assert.equal(changed.length, 1);
  assert.match(changed[0]!, /^ScopedRouteConfiguration ~set-/);
  table.sweep(() => false);
  assert.equal(changed.length, 1, "Envoy has not acknowledged yet");
  table.sweep(() => true);
  assert.deepEqual(
    changed
      .slice(1)
      .map((line) => line.split(" ")[0]!)
      .toSorted(),
    ["Cluster", "Cluster", "RouteConfiguration"],
  );
  assert.equal(table.setCount, 2, "the pods' own sets stay");
});

test("models that go the same way share one route configuration, whatever the order; a mix leaves when nothing uses it", () => {
  const { table, changed } = openTable();
  for (const name of podNames) table.setPod(pod(name));
  const mix: RouteTarget = {
    slot: 0,
    podIds: ["a"],
    split: [
      { slot: 1, podIds: ["b"], percent: 10 },
      { slot: 2, podIds: ["b", "c"], percent: 5 },
    ],
    mirror: { slot: 3, podIds: ["c"], percent: 50 },
  };
  table.setModel("x", mix);
  changed.length = 0;
  table.setModel("y", { ...mix, split: mix.split?.toReversed() ?? [] });
  assert.deepEqual(changed, ["ScopedRouteConfiguration y"]);
  assert.deepEqual(podsOf(table, "x"), podsOf(table, "y"));
  table.setModel("z", { ...mix, mirror: undefined });
  assert.notDeepEqual(podsOf(table, "z"), podsOf(table, "x"));
  for (let sweep = 0; sweep < 4; sweep++) table.sweep(() => true);
  assert.ok(podsOf(table, "x"), "what is used stays");
  for (const name of ["x", "y", "z"]) table.setModel(name, undefined);
  for (let sweep = 0; sweep < 6; sweep++) table.sweep(() => true);
  assert.deepEqual(
    [...table.names(typeUrls.routes)].filter((name) => name.startsWith("mix-")),
    [],
  );
  assert.equal(table.setCount, 3, "the pods' own sets stay");
});

test("a share without a pod is left out; without a pod for the active revision there is no route", () => {
  const { table } = openTable();
  table.setPod(pod("a"));
  table.setModel("plain", { slot: 0, podIds: ["a"] });
  table.setModel("x", { slot: 0, podIds: ["a"], split: [{ slot: 1, podIds: ["b"], percent: 10 }] });
  assert.deepEqual(podsOf(table, "x"), podsOf(table, "plain"));
  table.setModel("x", { slot: 0, podIds: ["b"], split: [{ slot: 1, podIds: ["a"], percent: 10 }] });
  assert.equal(podsOf(table, "x"), undefined);
});

test("a pod that comes back under another address is another set", () => {
  const { table } = openTable();
  table.setPod(pod("a", 9_000));
  table.setModel("x", { slot: 0, podIds: ["a"] });
  const before = podsOf(table, "x");
  table.setPod(pod("a", 9_500));
  assert.equal(podsOf(table, "x"), undefined, "what the old pod held is not what the new one holds");
  table.setModel("x", { slot: 0, podIds: ["a"] });
  assert.notDeepEqual(podsOf(table, "x"), before);
});

test("a pod whose model server was lost is another set; the clusters of the one before stay for what is silent there", () => {
  const { table } = openTable();
  const known = (): string[] => [...table.names(typeUrls.cluster)];
  assert.equal(table.setPod(pod("a")), false);
  table.setPod(pod("b"));
  table.setModel("x", { slot: 0, podIds: ["a", "b"] });
  const before = known();
  const [set = ""] = table.wanted("x").flatMap(({ typeUrl, name }) => (typeUrl === typeUrls.cluster ? [name] : []));
  assert.ok(table.isCurrent(set));

  assert.equal(table.setPod({ ...pod("a"), losses: 1 }), true);
  assert.equal(table.setPod({ ...pod("a"), losses: 1 }), false);
  assert.ok(!table.isCurrent(set));
  assert.deepEqual(table.podsOf(set), ["a", "b"], "what comes from there is still known");
  assert.deepEqual(podsOf(table, "x")?.length, 1, "the other pod still has it");
  const added = known().filter((name) => !before.includes(name));
  assert.equal(added.filter((name) => name.startsWith("pod-")).length, 2);
  assert.deepEqual(
    before.filter((name) => !known().includes(name)),
    [],
  );

  table.setModel("x", { slot: 0, podIds: ["a", "b"] });
  assert.ok(table.wanted("x").every(({ name }) => !before.includes(name)));
  for (let sweeps = 0; sweeps < 4; sweeps++) table.sweep(() => true);
  // Of pod b, and all of pod a as it is now.
  const left = before.filter((name) => known().includes(name));
  assert.deepEqual(
    left,
    before.filter((name) => table.podsOf(name.replace(/^(?:pod|last)-/, "set-"))?.join() === "b"),
  );
  assert.ok(left.length > 0 && added.every((name) => known().includes(name)));
});

test("where a pod of a set has gRPC alone, REST is put into it for the whole set; other clusters have no filters", () => {
  const { table } = openTable();
  table.setPod(pod("a"));
  table.setPod({ ...pod("b", 9_100), restByGrpc: true });
  table.setModel("plain", { slot: 0, podIds: ["a"] });
  table.setModel("mixed", { slot: 0, podIds: ["a", "b"] });
  const seen = new Map<string, readonly [filters: number, ports: readonly number[]]>();
  for (const name of table.names(typeUrls.cluster)) {
    const { loadAssignment, typedExtensionProtocolOptions } = fromBinary(ClusterSchema, table.get(typeUrls.cluster, name)!.bytes);
    const [options] = Object.values(typedExtensionProtocolOptions);
    const { httpFilters } = fromBinary(HttpProtocolOptionsSchema, options!.value);
    const ports = loadAssignment!.endpoints[0]!.lbEndpoints.map(({ hostIdentifier }) => {
      const address = hostIdentifier.case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
      return address?.case === "socketAddress" ? Number(address.value.portSpecifier.value) : 0;
    });
    seen.set(name, [httpFilters.length, ports]);
  }
  const clustersTo = (...ports: number[]): Record<string, number> =>
    Object.fromEntries(
      [...seen]
        .filter(([, [, to]]) => String(to) === String(ports))
        .map(([name, [filters]]) => [name.replace(/-[0-9a-f]+-/, "-"), filters]),
    );
  assert.deepEqual(clustersTo(9_000), { "set-rest": 0, "pod-rest": 0, "last-rest": 0 });
  assert.deepEqual(clustersTo(9_001), { "set-grpc": 0, "pod-grpc": 0, "last-grpc": 0 });
  const own = { "set-rest": 2, "pod-rest": 2, "last-rest": 2, "set-grpc": 0, "pod-grpc": 0, "last-grpc": 0 };
  assert.deepEqual(clustersTo(9_101), own);
  assert.deepEqual(clustersTo(9_001, 9_101), { "set-rest": 2, "set-grpc": 0 });
});

test("models with another patience share other routes to the same pods, with their own time for a silent try", () => {
  const { table } = openTable();
  table.setPod(pod("a"));
  const seconds = ["x", "y", "z"].map((name, at) => {
    table.setModel(name, { slot: 0, podIds: ["a"], patience: at === 0 ? 0 : 1 });
    const routes = table.wanted(name).find(({ typeUrl }) => typeUrl === typeUrls.routes);
    const { bytes } = table.get(typeUrls.routes, routes?.name ?? "") ?? assert.fail();
    const { virtualHosts } = fromBinary(RouteConfigurationSchema, bytes);
    return [routes?.name.slice(0, 4), Number(virtualHosts[0]?.retryPolicy?.perTryTimeout?.seconds)];
  });
  assert.deepEqual(seconds, [
    ["set-", 2],
    ["mix-", 16],
    ["mix-", 16],
  ]);
  const before = [...table.names(typeUrls.routes)].length;
  table.setModel("y", { slot: 0, podIds: ["a"] });
  table.setModel("z", { slot: 0, podIds: ["a"] });
  for (let each = 0; each < 4; each++) table.sweep(() => true);
  assert.equal([...table.names(typeUrls.routes)].length, before - 1);
});

test("whatever routes a model's scope names, an entry scope names them first, and as long as they are there", () => {
  const { table } = openTable();
  for (const name of podNames) table.setPod(pod(name));
  const target = (scope: string): string | undefined => table.get(typeUrls.scope, scope)?.version;
  const entered = (): Set<string | undefined> =>
    new Set([...table.names(typeUrls.scope)].filter((name) => name.startsWith("~")).map(target));
  table.setModel("x", { slot: 0, podIds: ["a", "b"], split: [{ slot: 1, podIds: ["b"], percent: 10 }] });
  const mix = target("x");
  assert.match(mix ?? "", /^mix-/);
  assert.deepEqual(table.needs(typeUrls.scope, "x"), { typeUrl: typeUrls.routes, name: mix });
  assert.equal(table.needs(typeUrls.routes, "x"), undefined);
  assert.ok(entered().has(mix));
  table.setModel("x", { slot: 0, podIds: ["a", "b"] });
  assert.match(target("x") ?? "", /^set-/);
  assert.ok(entered().has(target("x")));
  for (let each = 0; entered().has(mix); each++) {
    assert.ok(each < 10);
    table.sweep(() => false);
  }
  table.sweep(() => false);
  assert.ok(table.get(typeUrls.routes, mix ?? ""), "Envoy has not said that it is done with it");
  table.setModel("x", { slot: 0, podIds: ["a", "b"], split: [{ slot: 1, podIds: ["b"], percent: 10 }] });
  assert.ok(entered().has(mix), "it came back while it was leaving");
  table.sweep(() => true);
  assert.ok(table.get(typeUrls.routes, mix ?? ""));
});

for (const patience of [0, 1, 2] as const) {
  const ms = patienceMs[patience];
  test(`a request that may be silent for ${ms / 1_000} s finds its cluster there for a hedge, though its model left the set`, () => {
    const { table } = openTable();
    for (const name of podNames) table.setPod(pod(name));
    table.setModel("x", { slot: 0, podIds: ["a", "b"], patience });
    const cluster = table.wanted("x").find(({ typeUrl }) => typeUrl === typeUrls.cluster)?.name ?? assert.fail();
    const isThere = (): boolean => table.get(typeUrls.cluster, cluster) !== undefined;
    table.setModel("x", { slot: 0, podIds: ["a"], patience });
    // The first one may come the moment after the model left.
    let sweeps = 0;
    for (; isThere(); sweeps++) table.sweep(() => true);
    assert.ok((sweeps - 1) * sweepMs >= ms, `it went with sweep ${sweeps}`);
    assert.ok(sweeps <= 5 + ms / sweepMs, `it stayed for ${sweeps} sweeps`);
  });
}

function share(slot: number) {
  return fc.record({ slot: fc.constant(slot), podIds: fc.subarray(podNames), percent: fc.constantFrom(10, 100) });
}

const step = fc.oneof(
  fc.record({
    kind: fc.constant("model" as const),
    model: fc.constantFrom("x", "y", "z"),
    slot: fc.constantFrom(0, 1),
    podIds: fc.subarray(podNames),
    split: fc.array(share(2), { maxLength: 1 }),
    mirror: fc.option(share(3), { nil: undefined }),
    patience: fc.constantFrom<Patience>(0, 1),
  }),
  fc.record({ kind: fc.constant("up" as const), podId: fc.constantFrom(...podNames) }),
  fc.record({ kind: fc.constant("down" as const), podId: fc.constantFrom(...podNames) }),
  fc.constant({ kind: "sweep" as const }),
);

test("after any changes the table routes each model to the pods that hold it and are up", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { table } = openTable();
      const up = new Set<string>();
      const held = new Map<string, RouteTarget>();
      for (const each of steps) {
        if (each.kind === "up") {
          up.add(each.podId);
          table.setPod(pod(each.podId));
        } else if (each.kind === "down") {
          up.delete(each.podId);
          table.removePod(each.podId);
          const without = <Leg extends RouteLeg>(leg: Leg): Leg => ({
            ...leg,
            podIds: leg.podIds.filter((id) => id !== each.podId),
          });
          for (const [model, { split = [], mirror, patience = 0, ...active }] of held) {
            const left = { split: split.map(without), mirror: mirror === undefined ? undefined : without(mirror) };
            // With its active revision a model loses its route whole.
            held.set(model, { ...without(active), ...left, patience });
          }
        } else if (each.kind === "sweep") table.sweep(() => true);
        else {
          const { slot, podIds, split, mirror, patience } = each;
          const present = <Leg extends RouteLeg>(leg: Leg): Leg => ({
            ...leg,
            podIds: leg.podIds.filter((podId) => up.has(podId)),
          });
          held.set(each.model, {
            ...present({ slot, podIds }),
            split: split.map(present),
            mirror: mirror === undefined ? undefined : present(mirror),
            patience,
          });
          table.setModel(each.model, { slot, podIds, split, mirror, patience });
        }
      }
      const expected = openTable().table;
      for (const podId of up) expected.setPod(pod(podId));
      for (const [model, target] of held) expected.setModel(model, target);
      for (const model of ["x", "y", "z"]) assert.deepEqual(table.wanted(model), expected.wanted(model));
      for (const name of table.names(typeUrls.scope)) {
        if (table.has(name)) podsOf(table, name);
      }
    }),
  );
});
