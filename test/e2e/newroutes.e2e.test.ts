// A warm model whose routes change to such as Envoy does not have yet: another split, say. Envoy asks for those only
// when something names them, and no request may fall into that gap and find the model cold.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Pool } from "undici";
import { parseModel } from "#core/model.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { putModel } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { CopyState } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { type FakePod, openFakePod } from "../harness/fakepod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { openNamingServer } from "../harness/namingserver.ts";
import { waitUntil } from "../harness/wait.ts";

const stack = new AsyncDisposableStack();
let fleet: TestFleet;
let registry: Registry;
let rest: Pool;
const pods: FakePod[] = [];

before(async () => {
  fleet = stack.use(await openFleet({ pods: 1 }));
  const server = stack.use(await openNamingServer());
  registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const { restAddress, grpcAddress } = server;
  for (const [runtime, count] of [
    ["any", 1],
    ["some", 4],
  ] as const) {
    for (let at = 0; at < count; at++) {
      // Whoever tells what `some` hold, it is not the demand: they have no room for more.
      const capacity = runtime === "some" ? { capacityBytes: 1 } : {};
      const of = { registry, podId: `${runtime}-${at}`, runtime, restAddress, grpcAddress };
      const pod = await openFakePod({ ...of, ...capacity });
      if (runtime === "some") pods.push(pod);
      stack.use(pod);
    }
  }
  await waitUntil(
    "the pods are linked",
    () => fleet.management.linkedPods(),
    (linked) => linked === 6,
  );
  rest = new Pool(fleet.restUrl, { connections: 8 });
  stack.defer(() => rest.destroy());
});
after(() => stack.disposeAsync());

const name = "changed";
const moved = "moved";

async function put(percent: number): Promise<void> {
  const revisions = [0, 1].map((slot) => ({ id: `r${slot}`, slot, format: "any", storageUri: "file:///any" }));
  const parsed = parseModel({ name, revisions, active: "r0", split: [{ revision: "r1", percent }] });
  if (parsed.kind !== "ok") assert.fail(JSON.stringify(parsed));
  assert.equal((await putModel(registry, parsed.model)).kind, "ok");
}

async function ask(model: string): Promise<void> {
  const { statusCode, body } = await rest.request({ path: `/v2/models/${model}/infer`, method: "POST", body: '{"inputs":[]}' });
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
      await ask(name);
      return (await fleet.manage("GET", `/api/v1/models/${name}`)).json as Seen;
    },
    ({ split, copies, acknowledged }) =>
      acknowledged &&
      split?.[0]?.percent === percent &&
      ["r0", "r1"].every((id) => copies.some(({ revision, state }) => revision === id && state === "ready")),
    30_000,
  );
}

/** Asks for the model all the time; nothing that `change` does may make a request find it cold. */
async function driveThrough(model: string, change: () => Promise<void>): Promise<void> {
  const { misses } = await fleet.stats();
  const over = new AbortController();
  let asked = 0;
  const driving = Array.from({ length: 8 }, async () => {
    for (; !over.signal.aborted; asked++) await ask(model);
  });
  try {
    await change();
  } finally {
    over.abort();
    await Promise.all(driving);
  }
  assert.ok(asked > 50, `${asked} requests`);
  assert.equal((await fleet.stats()).misses - misses, 0, "requests that found no route");
}

test("no request finds a warm model cold while its split changes", { timeout: 300_000 }, async () => {
  await put(1);
  await waitUntil(
    "the gateway knows the model",
    async () => (await fleet.manage("GET", `/api/v1/models/${name}`)).status,
    (status) => status === 200,
  );
  await whenRouted(1);
  await driveThrough(name, async () => {
    for (let percent = 2; percent <= 25; percent++) {
      await put(percent);
      await whenRouted(percent);
    }
  });
});

test("nor while copies come and go on whatever pods", { timeout: 300_000 }, async () => {
  await fleet.register(moved, "file:///some", "some");
  const { json } = await fleet.manage("GET", `/api/v1/models/${moved}`);
  const { active: revision } = json as { readonly active: string };
  const copy = { model: moved, revision, slot: 0, sizeBytes: 1n };
  const [first, ...others] = pods;
  first?.tell([{ ...copy, state: CopyState.READY }]);
  const whenSettled = (holders: number): Promise<unknown> =>
    waitUntil(
      `${holders} pods are routed to`,
      async () => (await fleet.manage("GET", `/api/v1/models/${moved}`)).json as Seen,
      (seen) => seen.acknowledged && seen.copies.filter(({ state }) => state === "ready").length === holders,
    );
  await whenSettled(1);
  await driveThrough(moved, async () => {
    let before = 0;
    // Each of the sets with the first one, none of which Envoy has, in an order in which copies both come and go.
    for (const set of [1, 3, 2, 6, 7, 5, 4, 0]) {
      for (const [at, pod] of others.entries()) {
        const bit = 1 << at;
        if ((set & bit) === (before & bit)) continue;
        if ((set & bit) !== 0) pod.tell([{ ...copy, state: CopyState.READY }]);
        else {
          pod.tell([{ ...copy, state: CopyState.LEAVING }], true);
          await pod.whenWithdrawn();
          pod.tell([{ ...copy, state: CopyState.GONE }]);
        }
      }
      before = set;
      await whenSettled(1 + [1, 2, 4].filter((bit) => (set & bit) !== 0).length);
    }
  });
});
