import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { KubeError } from "./client.ts";
import { type LeaderOptions, runLeader } from "./leader.ts";
import { parseObject } from "./objects.ts";

/** One Lease, with the API server's rule that a write must know the version that it replaces; may be cut off. */
function createLeases() {
  let stored: Record<string, unknown> | undefined;
  let version = 0;
  const cut = new Set<string>();
  const clientFor = (who: string): LeaderOptions["client"] => {
    const reach = (): void => {
      if (cut.has(who)) throw new Error("the API server cannot be reached");
    };
    const put = (object: unknown): ReturnType<typeof need> => {
      version += 1;
      const body = object as { metadata: Record<string, unknown> };
      stored = { ...body, metadata: { ...body.metadata, resourceVersion: `${version}` } };
      return need(stored);
    };
    return {
      async get() {
        reach();
        return stored === undefined ? undefined : need(stored);
      },
      async create(_type, _namespace, object) {
        reach();
        if (stored !== undefined) throw new KubeError(409, "AlreadyExists", "it exists");
        return put(object);
      },
      async replace(_type, _namespace, _name, object) {
        reach();
        const given = (object as { metadata: { resourceVersion: string } }).metadata.resourceVersion;
        if (given !== `${version}`) throw new KubeError(409, "Conflict", "it has changed");
        return put(object);
      },
    };
  };
  return { clientFor, cut, holder: () => (stored as { spec?: { holderIdentity?: string } } | undefined)?.spec?.holderIdentity };
}

function need(value: unknown): NonNullable<ReturnType<typeof parseObject>> {
  const object = parseObject(structuredClone(value));
  assert.ok(object);
  return object;
}

const times = { leaseMs: 600, renewMs: 400, retryMs: 40 };

describe("the election", () => {
  test("one of several leads at a time; when it stops another one follows at once", async () => {
    const leases = createLeases();
    const leading = new Set<string>();
    let most = 0;
    const order: string[] = [];
    const stops = ["a", "b", "c"].map((identity) => {
      const stop = new AbortController();
      const ended = runLeader(
        {
          client: leases.clientFor(identity),
          namespace: "default",
          name: "lease",
          identity,
          clock: systemClock,
          log: silentLog,
          ...times,
        },
        async (signal) => {
          leading.add(identity);
          order.push(identity);
          most = Math.max(most, leading.size);
          await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
          leading.delete(identity);
        },
        stop.signal,
      );
      return { identity, stop, ended };
    });
    for (let at = 0; at < 3; at++) {
      const leader = await waitUntil(
        "somebody leads",
        () => [...leading][0],
        (it) => it !== undefined && order.length === at + 1,
        30_000,
      );
      const own = stops.find(({ identity }) => identity === leader)!;
      own.stop.abort();
      assert.equal(await own.ended, "stopped");
    }
    assert.equal(most, 1);
    assert.equal(new Set(order).size, 3);
    assert.equal(leases.holder(), "");
  });

  test("a leader that cannot renew stops before its successor begins", async () => {
    const leases = createLeases();
    const stop = new AbortController();
    const marks: { readonly what: string; readonly atMs: number }[] = [];
    const run = (identity: string): Promise<string> =>
      runLeader(
        {
          client: leases.clientFor(identity),
          namespace: "default",
          name: "lease",
          identity,
          clock: systemClock,
          log: silentLog,
          ...times,
        },
        async (signal) => {
          marks.push({ what: `${identity} leads`, atMs: performance.now() });
          await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
          marks.push({ what: `${identity} stops`, atMs: performance.now() });
        },
        stop.signal,
      );
    const first = run("a");
    await waitUntil(
      "a leads",
      () => marks.length,
      (count) => count === 1,
      30_000,
    );
    const second = run("b");
    leases.cut.add("a");
    assert.equal(await first, "lost");
    await waitUntil(
      "b leads",
      () => marks.length,
      (count) => count === 3,
      30_000,
    );
    assert.deepEqual(
      marks.map(({ what }) => what),
      ["a leads", "a stops", "b leads"],
    );
    stop.abort();
    assert.equal(await second, "stopped");
  });
});
