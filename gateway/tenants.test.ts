// What copies of tenants' models take, against a count of all copies from the start.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { parseModel } from "#core/model.ts";
import { type Copy, type CopyChange, copyKey, createFleet, type PodInfo } from "./fleet.ts";
import { createTenantBytes } from "./tenants.ts";

const pods = ["p", "q"];
const names = ["a", "b", "c", "d"];
const owners = ["one", "two", undefined];

const info = (podId: string): PodInfo => ({
  podId,
  incarnation: podId,
  runtime: "onnx",
  capacityBytes: 1_000,
  rest: { host: "127.0.0.1", port: 1 },
  grpc: { host: "127.0.0.1", port: 2 },
  labels: {},
  formats: ["onnx"],
});

function model(name: string, tenant: string | undefined) {
  const revisions = [{ id: "r", slot: 0, format: "onnx", storageUri: "file:///m" }];
  const parsed = parseModel({ name, revisions, active: "r", ...(tenant === undefined ? {} : { tenant }) });
  assert.ok(parsed.kind === "ok");
  return parsed.model;
}

type Step =
  | { readonly kind: "change"; readonly podId: string; readonly change: CopyChange }
  | { readonly kind: "owner"; readonly name: string; readonly tenant: string | undefined }
  | { readonly kind: "count"; readonly on: boolean }
  | { readonly kind: "detach"; readonly podId: string };

const states = ["queued", "loading", "ready", "leaving", "failed", "gone"] as const;
const change = fc
  .record({ model: fc.constantFrom(...names), state: fc.constantFrom(...states), sizeBytes: fc.nat(50) })
  .map((given): CopyChange => ({ ...given, revision: "r", slot: 0 }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ kind: fc.constant("change" as const), podId: fc.constantFrom(...pods), change }) },
  fc.record({ kind: fc.constant("owner" as const), name: fc.constantFrom(...names), tenant: fc.constantFrom(...owners) }),
  fc.record({ kind: fc.constant("count" as const), on: fc.boolean() }),
  fc.record({ kind: fc.constant("detach" as const), podId: fc.constantFrom(...pods) }),
);

test("the sums are those of the copies that load or are ready, whatever happened before", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const models = new Map(names.map((name) => [name, model(name, undefined)]));
      const fleet = createFleet({
        onCopies: (podId, changes) => bytes.onCopies(podId, changes),
        onPod: () => undefined,
      });
      const bytes = createTenantBytes(fleet, (name) => models.get(name));
      bytes.count(true);
      for (const podId of pods) fleet.attach(info(podId), []);
      for (const each of steps) {
        if (each.kind === "change") fleet.change(each.podId, [each.change]);
        else if (each.kind === "count") bytes.count(each.on);
        else if (each.kind === "owner") {
          models.set(each.name, model(each.name, each.tenant));
          bytes.onModel(each.name);
        } else {
          fleet.detach(each.podId);
          fleet.attach(info(each.podId), []);
        }
      }
      bytes.count(true);
      for (const tenant of ["one", "two", "-"]) {
        let total = 0;
        for (const pod of fleet.pods()) {
          const counted = [...pod.copies.values()].filter(
            (copy: Copy) =>
              (copy.state === "ready" || copy.state === "loading") && (models.get(copy.model)?.tenant ?? "-") === tenant,
          );
          const there = counted.reduce((sum, copy) => sum + copy.sizeBytes, 0);
          assert.equal(bytes.on(pod.info.podId, tenant), there);
          for (const copy of counted) assert.equal(bytes.ownersOn(pod.info.podId).get(copy.model), tenant, copyKey(copy));
          total += there;
        }
        assert.equal(bytes.total(tenant), total);
      }
    }),
  );
});
