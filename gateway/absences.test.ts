// A client heard that a model is not there: who says that it holds it is asked, once at a time.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createAbsences } from "./absences.ts";
import type { Holder } from "./fleet.ts";

function holder(podId: string, state: Holder["copy"]["state"], revision = "r1"): Holder {
  return { podId, copy: { model: "x", revision, slot: 0, state, sizeBytes: 1 } };
}

test("every pod that says it holds the model ready is asked for the revision that it holds", async () => {
  const asked: string[] = [];
  const absences = createAbsences({
    fleet: { holders: () => [holder("a", "ready"), holder("b", "ready", "r2"), holder("c", "loading"), holder("d", "leaving")] },
    verify: (...question) => {
      asked.push(question.join(" "));
      return Promise.resolve(false);
    },
  });
  await absences.look("x");
  assert.deepEqual(asked, ["a x r1", "b x r2"]);
});

test("a model is asked for once at a time, and again when it is told of again", async () => {
  let questions = 0;
  const answer = Promise.withResolvers<boolean>();
  const absences = createAbsences({
    fleet: { holders: () => [holder("a", "ready")] },
    verify: () => {
      questions += 1;
      return answer.promise;
    },
  });
  const first = absences.look("x");
  await absences.look("x");
  assert.equal(questions, 1);
  answer.resolve(true);
  await first;
  await absences.look("x");
  assert.equal(questions, 2);
});
