// A warm model whose routes change to such as Envoy does not have yet: another split, say. Envoy asks for those only
// when something names them, and no request may fall into that gap and find the model cold.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Pool } from "undici";
import { parseModel } from "#core/model.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { putModel } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { openNamingServer } from "../harness/namingserver.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let registry: Registry;
let rest: Pool;

before(async () => {
  fleet = stack.use(await openFleet({ pods: 1 }));
  const server = stack.use(await openNamingServer());
  registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const { restAddress, grpcAddress } = server;
  stack.use(await openFakePod({ registry, podId: "any-0", runtime: "any", restAddress, grpcAddress }));
  await waitUntil(
    "the pods are linked",
    () => fleet.management.linkedPods(),
    (pods) => pods === 2,
  );
  rest = new Pool(fleet.restUrl, { connections: 8 });
  stack.defer(() => rest.destroy());
});
after(() => stack.disposeAsync());

const name = "changed";

async function put(percent: number): Promise<void> {
  const revisions = [0, 1].map((slot) => ({ id: `r${slot}`, slot, format: "any", storageUri: "file:///any" }));
  const parsed = parseModel({ name, revisions, active: "r0", split: [{ revision: "r1", percent }] });
  if (parsed.kind !== "ok") assert.fail(JSON.stringify(parsed));
  assert.equal((await putModel(registry, parsed.model)).kind, "ok");
}

async function ask(): Promise<void> {
  const { statusCode, body } = await rest.request({ path: `/v2/models/${name}/infer`, method: "POST", body: '{"inputs":[]}' });
  assert.equal(statusCode, 200, await body.text());
}

interface Seen {
  readonly split?: readonly { readonly percent: number }[];
  readonly copies: readonly { readonly revision: string; readonly state: string }[];
  readonly acknowledged: boolean;
}

async function whenRouted(percent: number): Promise<void> {
  await waitUntil(
    `Envoy sends ${percent} % to r1`,
    async () => {
      await ask();
      return (await fleet.manage("GET", `/api/v1/models/${name}`)).json as Seen;
    },
    ({ split, copies, acknowledged }) =>
      acknowledged &&
      split?.[0]?.percent === percent &&
      ["r0", "r1"].every((id) => copies.some(({ revision, state }) => revision === id && state === "ready")),
    30_000,
  );
}

test("no request finds a warm model cold while its routes change", { timeout: 120_000 }, async () => {
  await put(1);
  await waitUntil(
    "the gateway knows the model",
    async () => (await fleet.manage("GET", `/api/v1/models/${name}`)).status,
    (status) => status === 200,
  );
  await whenRouted(1);
  const { misses } = await fleet.stats();
  const over = new AbortController();
  const driving = Array.from({ length: 8 }, async () => {
    while (!over.signal.aborted) await ask();
  });
  try {
    for (let percent = 2; percent <= 60; percent++) {
      await put(percent);
      await whenRouted(percent);
    }
  } finally {
    over.abort();
    await Promise.all(driving);
  }
  const after = await fleet.stats();
  assert.ok((after.hits ?? 0) > 1_000, `${after.hits} hits`);
  assert.equal(after.misses - misses, 0, "requests that found no route");
});
