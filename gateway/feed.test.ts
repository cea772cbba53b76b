import assert from "node:assert/strict";
import { test } from "node:test";
import { createFeed, type FeedSink } from "./feed.ts";
import { type CopyChange, createFleet, type Fleet } from "./fleet.ts";

interface Reader extends FeedSink {
  full: boolean;
  readonly events: { readonly event: string; readonly data: unknown }[];
}

function reader(): Reader {
  const events: Reader["events"] = [];
  return {
    full: false,
    events,
    write(text) {
      const [, event = "", data = ""] = /^event: (\w+)\ndata: (.*)\n\n$/.exec(text) ?? [];
      events.push({ event, data: JSON.parse(data) });
      return true;
    },
  };
}

function open(): { readonly fleet: Fleet; readonly feed: ReturnType<typeof createFeed> } {
  const fleet = createFleet({ onCopies: (podId, changes) => feed.onCopies(podId, changes), onPod: () => undefined });
  const feed = createFeed(() => fleet);
  const address = { host: "127.0.0.1", port: 1 };
  const pod = {
    podId: "p",
    incarnation: "i",
    runtime: "onnx",
    capacityBytes: 1_000,
    rest: address,
    grpc: address,
    labels: {},
    formats: [],
  };
  fleet.attach(pod, []);
  return { fleet, feed };
}

function change(model: string, state: CopyChange["state"] = "ready", sizeBytes = 1): CopyChange {
  return { model, revision: "r", slot: 0, state, sizeBytes };
}

const numbers = async (): Promise<unknown> => ({});
const eventsOf = (from: Reader, event: string): unknown[] =>
  from.events.filter((each) => each.event === event).map(({ data }) => data);

test("the whole fleet first, then what changed since, each copy once", async () => {
  const { fleet, feed } = open();
  fleet.change("p", [change("a"), change("b", "loading")]);
  const looks = reader();
  feed.connect(looks);
  await feed.tick(numbers);
  assert.deepEqual(
    looks.events.map(({ event }) => event),
    ["fleet", "copies", "whole", "now"],
  );
  assert.deepEqual(eventsOf(looks, "copies"), [
    {
      pod: "p",
      copies: [
        ["a", "r", "ready", 1],
        ["b", "r", "loading", 1],
      ],
    },
  ]);
  fleet.change("p", [change("b", "ready", 7)]);
  fleet.change("p", [change("c", "loading")]);
  fleet.change("p", [change("c", "gone")]);
  await feed.tick(numbers);
  assert.deepEqual(eventsOf(looks, "changes"), [
    [
      ["p", ["b", "r", "ready", 7]],
      ["p", ["c", "r", "gone", 1]],
    ],
  ]);
  await feed.tick(numbers);
  assert.equal(eventsOf(looks, "changes").length, 1);
});

test("who does not read is sent nothing, and afterwards the newest, or the whole fleet when that is less", async () => {
  const { fleet, feed } = open();
  const [slow, slower] = [reader(), reader()];
  feed.connect(slow);
  feed.connect(slower);
  await feed.tick(numbers);
  slow.full = true;
  slower.full = true;
  const sent = slow.events.length;
  for (let size = 1; size <= 1_000; size++) fleet.change("p", [change("a", "ready", size)]);
  await feed.tick(numbers);
  assert.equal(slow.events.length, sent);
  slow.full = false;
  await feed.tick(numbers);
  assert.deepEqual(eventsOf(slow, "changes"), [[["p", ["a", "r", "ready", 1_000]]]]);
  fleet.change(
    "p",
    Array.from({ length: 30_000 }, (_, at) => change(`m${at}`)),
  );
  slower.full = false;
  await feed.tick(numbers);
  assert.equal(eventsOf(slower, "changes").length, 0);
  const told = eventsOf(slower, "copies").flatMap((data) => (data as { readonly copies: readonly unknown[] }).copies);
  assert.equal(told.length, 30_001);
});

test("nothing is asked while nobody looks, and only so many may", async () => {
  const { feed } = open();
  await feed.tick(() => assert.fail("nobody looks"));
  const ends = Array.from({ length: 32 }, () => feed.connect(reader()));
  assert.ok(ends.every((end) => end !== undefined));
  assert.equal(feed.connect(reader()), undefined);
  ends[0]?.();
  assert.equal(feed.viewers, 31);
  assert.ok(feed.connect(reader()) !== undefined);
});
