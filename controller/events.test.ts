// Events are written once, and bounded.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createManualClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { type KubeObject, parseObject } from "./engine/objects.ts";
import { createRecorder, type Recorder, type Regarding } from "./events.ts";
import { inferenceServices } from "./kinds.ts";

interface Written {
  readonly type: string;
  readonly reason: string;
  readonly note: string;
  readonly metadata: { readonly name: string };
}

function open(answers: () => Promise<void> = async () => undefined): {
  readonly recorder: Recorder;
  readonly written: Written[];
  readonly clock: ReturnType<typeof createManualClock>;
} {
  const clock = createManualClock(1_700_000_000_000);
  const written: Written[] = [];
  const client = {
    async create(_type: unknown, _namespace: unknown, object: unknown): Promise<KubeObject> {
      written.push(object as Written);
      await answers();
      return parseObject({ metadata: { name: "event" } }) ?? assert.fail();
    },
  };
  return { recorder: createRecorder({ client, identity: "one", clock, log: silentLog }), written, clock };
}

const object = (uid: string): Regarding => ({
  kind: "InferenceService",
  type: inferenceServices,
  name: "model",
  namespace: "models",
  uid,
});
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("events", () => {
  test("the same one of an object is written once in five minutes; others of it, and of others, are", async () => {
    const { recorder, written, clock } = open();
    for (const [uid, reason, note] of [
      ["a", "Loaded", "one"],
      ["a", "Loaded", "one"],
      ["a", "Loaded", "two"],
      ["a", "ModelLoadFailed", "one"],
      ["b", "Loaded", "one"],
    ] as const) {
      recorder.tell(object(uid), reason, note);
      await turn();
    }
    assert.equal(written.length, 4);
    clock.advance(299_000);
    recorder.tell(object("a"), "Loaded", "one");
    await turn();
    assert.equal(written.length, 4);
    clock.advance(2_000);
    recorder.tell(object("a"), "Loaded", "one");
    await turn();
    assert.equal(written.length, 5);
    assert.equal(new Set(written.map(({ metadata }) => metadata.name)).size, 5);
  });

  test("at most eight are under way at once, the others wait, and a long note is cut", async () => {
    const held = Promise.withResolvers<void>();
    const { recorder, written } = open(() => held.promise);
    for (let at = 0; at < 20; at += 1) recorder.warn(object(`${at}`), "ModelLoadFailed", "x".repeat(5_000));
    await turn();
    assert.equal(written.length, 8);
    assert.ok(written.every(({ note }) => note.length === 1_024));
    held.resolve();
    await turn();
    assert.equal(written.length, 20);
  });

  test("what tells of success is bounded in time, and leaves room for warnings", async () => {
    const { recorder, written, clock } = open();
    const many = async (say: Recorder["tell"]): Promise<number> => {
      const before = written.length;
      for (let at = 0; at < 400; at += 1) {
        say(object(`${before}-${at}`), "Loaded", "one");
        await turn();
      }
      return written.length - before;
    };
    assert.equal(await many(recorder.tell), 200);
    assert.equal(await many(recorder.warn), 100);
    assert.equal(await many(recorder.warn), 0);
    clock.advance(13_000);
    assert.equal(await many(recorder.tell), 30);
    clock.advance(3_600_000);
    assert.equal(await many(recorder.warn), 300);
  });
});
