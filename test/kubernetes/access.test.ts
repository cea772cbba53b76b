// Who may call which model, as objects: from kubectl apply to what callers are answered, and back. A real API server and a real
// fleet that asks callers who they are.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitUntil } from "../harness/wait.ts";
import type { KubeValue } from "./harness/kubectl.ts";
import { buildInferenceService } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";
import { isLoaded, openServed, type Served, waitMs } from "./harness/served.ts";

const skip = whyNoControlPlane() ?? false;

function policy(name: string, spec: unknown): string {
  return JSON.stringify({ apiVersion: "warmpath.dev/v1alpha1", kind: "AccessPolicy", metadata: { name }, spec });
}

describe("who may call, as objects", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let it: Served;
  /** By principal. */
  const keys = new Map<string, Readonly<Record<string, string>>>();

  before(async () => {
    const folder = stack.use(await openRunFolder());
    const authFile = join(folder.path, "auth.yaml");
    await writeFile(authFile, "apiKeys: true\n");
    it = stack.use(await openServed({ authFile }));
    for (const principal of ["default", "team-b"]) {
      const made = await it.fleet.manage("POST", "/api/v1/keys", { principal });
      assert.equal(made.status, 201, made.text);
      keys.set(principal, { "x-api-key": (made.json as { key: string }).key });
    }
    for (const [name, labels] of [
      ["fraud-1", { stage: "prod" }],
      ["fraud-2", { stage: "test" }],
      ["other", {}],
    ] as const) {
      const object = JSON.parse(buildInferenceService(name, it.artefact("iris-t0001")));
      object.metadata.labels = labels;
      await it.plane.kubectl.apply(JSON.stringify(object));
    }
    for (const name of ["fraud-1", "fraud-2", "other"]) await it.until("isvc", name, "is loaded", isLoaded);
    // The namespace's own principal may call its models, by no policy.
    await untilAnswered("default", "other", 200);
  });
  after(() => stack.disposeAsync());

  const ask = (principal: string, model: string): Promise<number> => it.infer(model, keys.get(principal));
  const untilAnswered = async (principal: string, model: string, status: number): Promise<void> => {
    await waitUntil(
      `${principal} is answered ${status} for ${model}`,
      () => ask(principal, model),
      (code) => code === status,
      waitMs,
    );
  };
  const conditionsOf = async (name: string, what: string): Promise<KubeValue> => {
    const seen = await it.until("accesspolicy", name, what, (status) => status.conditions?.length === 2);
    return Object.fromEntries(seen.conditions.map((each: { type: string }) => [each.type, each]));
  };

  test("a policy opens what it selects by name and label, tells so, and closes it when it goes", async () => {
    assert.equal(await ask("team-b", "fraud-1"), 403);
    await it.plane.kubectl.apply(
      policy("fraud", { callers: ["team-b"], models: { names: ["fraud-*"], labels: { stage: "prod" } } }),
    );
    await untilAnswered("team-b", "fraud-1", 200);
    assert.equal(await ask("team-b", "fraud-2"), 403, "another label");
    assert.equal(await ask("team-b", "other"), 403, "another name");
    assert.equal(await it.infer("fraud-1"), 401, "who has proved nothing");
    const conditions = await conditionsOf("fraud", "is told of");
    assert.equal(conditions.Accepted.status, "True");
    assert.equal(conditions.Enforced.status, "True");
    assert.match(await it.plane.kubectl("get", "wap"), /fraud +True +True +\["team-b"\]/);
    // The object changes: so does who may call.
    await it.plane.kubectl.apply(policy("fraud", { callers: ["team-b"], models: { names: ["other"] } }));
    await untilAnswered("team-b", "other", 200);
    await untilAnswered("team-b", "fraud-1", 403);
    await it.plane.kubectl("delete", "accesspolicy", "fraud");
    await untilAnswered("team-b", "other", 403);
    assert.equal(await ask("default", "other"), 200);
  });

  test("a label of the object that changes opens and closes", async () => {
    await it.plane.kubectl.apply(policy("staged", { callers: ["authenticated"], models: { labels: { stage: "prod" } } }));
    await untilAnswered("team-b", "fraud-1", 200);
    await it.plane.kubectl("label", "isvc", "fraud-2", "stage=prod", "--overwrite");
    await untilAnswered("team-b", "fraud-2", 200);
    await it.plane.kubectl("label", "isvc", "fraud-2", "stage=test", "--overwrite");
    await untilAnswered("team-b", "fraud-2", 403);
    await it.plane.kubectl("delete", "accesspolicy", "staged");
    await untilAnswered("team-b", "fraud-1", 403);
  });

  test("without selecting anything it opens its own namespace's models, and no others", async () => {
    await it.fleet.register("by-hand", it.artefact("iris-t0001"));
    await it.plane.kubectl.apply(policy("all", { callers: ["team-b"] }));
    await untilAnswered("team-b", "other", 200);
    assert.equal(await ask("team-b", "by-hand"), 403);
    await it.plane.kubectl("delete", "accesspolicy", "all");
    await untilAnswered("team-b", "other", 403);
  });

  test("what is deleted or made while no controller runs counts once one does, and so does a record that was lost", async () => {
    await it.plane.kubectl.apply(policy("before", { callers: ["team-b"], models: { names: ["other"] } }));
    await untilAnswered("team-b", "other", 200);
    await it.stopController();
    await it.plane.kubectl("delete", "accesspolicy", "before");
    await it.plane.kubectl.apply(policy("meanwhile", { callers: ["team-b"], models: { names: ["fraud-1"] } }));
    assert.equal(await ask("team-b", "other"), 200);
    await it.startController();
    await untilAnswered("team-b", "other", 403);
    await untilAnswered("team-b", "fraud-1", 200);
    const name = "accesspolicy.default.meanwhile";
    assert.equal((await it.fleet.manage("PUT", `/api/v1/policies/${name}`, { callers: ["everybody"] })).status, 400);
    const gone = await it.fleet.manage("DELETE", `/api/v1/policies/${name}`);
    assert.equal(gone.status, 200);
    await waitUntil(
      "its record is back",
      async () => (await it.fleet.manage("GET", "/api/v1/policies")).text,
      (text) => text.includes(name),
      waitMs,
    );
    await untilAnswered("team-b", "fraud-1", 200);
    await it.plane.kubectl("delete", "accesspolicy", "meanwhile");
    await untilAnswered("team-b", "fraud-1", 403);
  });

  test("one of the management API and one of an object go side by side", async () => {
    await it.plane.kubectl.apply(policy("both", { callers: ["team-b"], models: { names: ["other"] } }));
    const put = { callers: ["team-b"], models: { names: ["fraud-1"] } };
    assert.equal((await it.fleet.manage("PUT", "/api/v1/policies/both", put)).status, 200);
    await untilAnswered("team-b", "other", 200);
    await untilAnswered("team-b", "fraud-1", 200);
    await it.plane.kubectl("delete", "accesspolicy", "both");
    await untilAnswered("team-b", "other", 403);
    assert.equal(await ask("team-b", "fraud-1"), 200);
    assert.equal((await it.fleet.manage("DELETE", "/api/v1/policies/both")).status, 200);
  });

  test("mistakes are refused by the API server in a sentence", async () => {
    const refusals: readonly (readonly [unknown, RegExp])[] = [
      [{}, /spec.callers: Required value/],
      [{ callers: [] }, /should have at least 1 items/],
      [{ callers: ["everybody", "team-a"] }, /everybody takes in all other callers/],
      [{ callers: ["team a"] }, /a caller is named by/],
      [{ callers: ["cert:team-a"] }, /without cert: before it/],
      [{ callers: ["a"], models: { names: ["a*b"] } }, /may end with one \*/],
      [{ callers: ["a"], models: { labels: { "-a": "b" } } }, /labels are named by/],
      [{ callers: ["a"], models: { tenant: "other" } }, /unknown field "spec.models.tenant"/],
    ];
    for (const [spec, says] of refusals) {
      const { code, stderr } = await it.plane.kubectl.run(["create", "--validate=strict", "--filename=-"], policy("bad", spec));
      assert.notEqual(code, 0, JSON.stringify(spec));
      assert.match(stderr, says);
    }
    const long = await it.plane.kubectl.run(["create", "--filename=-"], policy("x".repeat(151), { callers: ["a"] }));
    assert.match(long.stderr, /at most 150 characters/);
  });
});

test("where callers are not asked who they are, a policy says that it stops nobody", { skip }, async () => {
  await using it = await openServed({ pods: 1 });
  await it.plane.kubectl.apply(policy("idle", { callers: ["team-b"] }));
  const status = await it.until("accesspolicy", "idle", "is told of", (seen) => seen.conditions?.length === 2);
  const enforced = status.conditions.find((each: { type: string }) => each.type === "Enforced");
  assert.equal(enforced.status, "False");
  assert.match(enforced.message, /everybody may call every model/);
});
