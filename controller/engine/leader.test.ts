import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createManualClock } from "#platform/clock.ts";
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
  const calls: string[] = [];
  const clientFor = (who: string): LeaderOptions["client"] => {
    const reach = (what: string): void => {
      calls.push(`${who} ${what}`);
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
        reach("get");
        return stored === undefined ? undefined : need(stored);
      },
      async create(_type, _namespace, object) {
        reach("create");
        if (stored !== undefined) throw new KubeError(409, "AlreadyExists", "it exists");
        return put(object);
      },
      async replace(_type, _namespace, _name, object) {
        reach("replace");
        const given = (object as { metadata: { resourceVersion: string } }).metadata.resourceVersion;
        if (given !== `${version}`) throw new KubeError(409, "Conflict", "it has changed");
        return put(object);
      },
    };
  };
  /** As by somebody who labels it. */
  const touch = async (): Promise<void> => {
    const body = structuredClone(stored) as { metadata: { resourceVersion: string } };
    version += 1;
    stored = { ...body, metadata: { ...body.metadata, resourceVersion: `${version}` } };
  };
  return {
    clientFor,
    cut,
    calls,
    touch,
    holder: () => (stored as { spec?: { holderIdentity?: string } } | undefined)?.spec?.holderIdentity,
  };
}

function need(value: unknown): NonNullable<ReturnType<typeof parseObject>> {
  const object = parseObject(structuredClone(value));
  assert.ok(object);
  return object;
}

const times = { leaseMs: 600, renewMs: 400, retryMs: 10 };

describe("the election", () => {
  test("one of several leads at a time; when it stops another one follows at once", async () => {
    const leases = createLeases();
    // It stands still: a slow machine loses nobody the lease.
    const clock = createManualClock();
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
          clock,
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
      await own.ended;
    }
    assert.equal(most, 1);
    assert.equal(new Set(order).size, 3);
    assert.equal(leases.holder(), "");
  });

  test("a leader that cannot renew stops before its successor begins, stands by, and leads again", async () => {
    const leases = createLeases();
    // It stands still: a slow machine loses nobody the lease.
    const clock = createManualClock();
    const marks: string[] = [];
    const start = (identity: string): Disposable & { readonly ended: Promise<void> } => {
      const stop = new AbortController();
      const ended = runLeader(
        {
          client: leases.clientFor(identity),
          namespace: "default",
          name: "lease",
          identity,
          clock,
          log: silentLog,
          ...times,
        },
        async (signal) => {
          marks.push(`${identity} leads`);
          await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
          marks.push(`${identity} stops`);
        },
        stop.signal,
      );
      return { ended, [Symbol.dispose]: () => stop.abort() };
    };
    const untilMarks = (count: number): Promise<unknown> =>
      waitUntil(
        `${count} turns`,
        () => marks.length,
        (length) => length >= count,
        30_000,
      );
    const untilLooks = (count: number): Promise<unknown> =>
      waitUntil(
        `${count} looks at the lease`,
        () => leases.calls.filter((call) => call === "b get").length,
        (length) => length >= count,
        30_000,
      );
    using first = start("a");
    await untilMarks(1);
    using second = start("b");
    leases.cut.add("a");
    // b has seen the lease, and waits.
    await untilLooks(leases.calls.filter((call) => call === "b get").length + 4);
    clock.advance(times.renewMs + 1);
    await untilMarks(2);
    assert.deepEqual(marks, ["a leads", "a stops"]);
    clock.advance(times.leaseMs - times.renewMs);
    await untilMarks(3);
    assert.deepEqual(marks, ["a leads", "a stops", "b leads"]);
    leases.cut.delete("a");
    second[Symbol.dispose]();
    await second.ended;
    await untilMarks(5);
    first[Symbol.dispose]();
    await first.ended;
    assert.deepEqual(marks, ["a leads", "a stops", "b leads", "b stops", "a leads", "a stops"]);
  });

  test("renewing is one write; a lease that somebody else has touched is read again, and kept", async () => {
    const leases = createLeases();
    // It stands still: a slow machine loses nobody the lease.
    const clock = createManualClock();
    const stop = new AbortController();
    let turns = 0;
    const ended = runLeader(
      {
        client: leases.clientFor("a"),
        namespace: "default",
        name: "lease",
        identity: "a",
        clock,
        log: silentLog,
        ...times,
      },
      async (signal) => {
        turns += 1;
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      },
      stop.signal,
    );
    const renewals = (count: number): Promise<unknown> =>
      waitUntil(
        `${count} calls`,
        () => leases.calls.length,
        (length) => length >= count,
        30_000,
      );
    await renewals(5);
    assert.deepEqual(
      leases.calls.slice(0, 5),
      ["get", "create", "replace", "replace", "replace"].map((call) => `a ${call}`),
    );
    const touched = leases.calls.length;
    await leases.touch();
    await renewals(touched + 6);
    const [refused, read, ...later] = leases.calls.slice(leases.calls.indexOf("a get", 1) - 1);
    assert.deepEqual([refused, read, ...new Set(later)], ["a replace", "a get", "a replace"]);
    assert.equal(turns, 1);
    stop.abort();
    await ended;
    assert.equal(leases.holder(), "");
  });
});
