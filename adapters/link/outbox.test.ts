import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { CopyState } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import type { CopyView } from "../agent/copies.ts";
import type { ToGateway } from "./messages.ts";
import { createOutbox, maxCopiesPerMessage } from "./outbox.ts";

const view = (model: string, state: CopyView["state"]): CopyView => ({
  model,
  revision: "r1",
  slot: 0,
  state,
  sizeBytes: 1,
  lastUsedMs: 40,
});
const copies = (message: ToGateway | undefined): unknown =>
  message?.case === "delta" || message?.case === "snapshot"
    ? message.value.copies?.map(({ model, state }) => [model, state])
    : message;

describe("the outbox of a Link", () => {
  test("tells the newest state of each copy once, with gapless sequence numbers", () => {
    const outbox = createOutbox();
    outbox.snapshot([view("a", "ready")]);
    outbox.changed([view("a", "leaving")], [7]);
    outbox.changed([view("b", "loading")], []);
    outbox.changed([view("a", "gone")], []);
    const snapshot = outbox.take(100);
    assert.deepEqual(copies(snapshot), [["a", CopyState.READY]]);
    const delta = outbox.take(100);
    assert.ok(snapshot?.case === "snapshot" && delta?.case === "delta");
    assert.deepEqual(copies(delta), [
      ["b", CopyState.LOADING],
      ["a", CopyState.GONE],
    ]);
    assert.equal(delta.value.sequence, (snapshot.value.sequence ?? 0n) + 1n);
    assert.equal(delta.value.withdraw, true);
    assert.equal(outbox.take(100), undefined);
    assert.deepEqual(outbox.acked(99n), []);
    assert.deepEqual(outbox.acked(delta.value.sequence ?? 0n), [7]);
    assert.deepEqual(outbox.acked(delta.value.sequence ?? 0n), []);
  });

  test("cuts what is long, with the withdrawals in the last part", () => {
    const outbox = createOutbox();
    const views = Array.from({ length: maxCopiesPerMessage + 1 }, (_, n) => view(`m${n}`, "leaving"));
    outbox.snapshot(views);
    outbox.changed(views, [1]);
    const messages = Array.from({ length: 4 }, () => outbox.take(100));
    assert.deepEqual(
      messages.map((message) =>
        message?.case === "snapshot" ? message.value.last : message?.case === "delta" && message.value.withdraw,
      ),
      [false, true, false, true],
    );
    assert.equal(outbox.take(100), undefined);
  });

  test("keeps what was said in order, and only the newest gauges", () => {
    const outbox = createOutbox();
    outbox.gauges({ case: "gauges", value: { queued: 1 } });
    outbox.said({ case: "pong", value: { id: 1n } });
    outbox.gauges({ case: "gauges", value: { queued: 2 } });
    outbox.said({ case: "pong", value: { id: 2n } });
    assert.equal(outbox.backlog, 2);
    const told = Array.from({ length: 4 }, () => outbox.take(0));
    assert.deepEqual(told, [
      { case: "pong", value: { id: 1n } },
      { case: "pong", value: { id: 2n } },
      { case: "gauges", value: { queued: 2 } },
      undefined,
    ]);
  });
});
