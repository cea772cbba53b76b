import assert from "node:assert/strict";
import { test } from "node:test";
import { createManualClock, untilAborted } from "#platform/clock.ts";
import { createSilences } from "./silence.ts";
import { PullError } from "./trouble.ts";

const never = new AbortController().signal;
const question = (store = "s3 bucket", timeoutMs = 5) => ({ store, what: "s3://bucket/m", timeoutMs });

async function hang(ended: AbortSignal): Promise<never> {
  await untilAborted(ended);
  throw ended.reason;
}

const isSilent = (error: unknown): boolean =>
  error instanceof PullError && error.trouble === "unreachable" && error.message === "the store is silent about s3://bucket/m";
const isLeftAlone = (error: unknown): boolean => error instanceof PullError && /left alone/.test(error.message);

test("a store that stays silent is left alone, then one may try; another store is none of it", async () => {
  const clock = createManualClock();
  const { ask } = createSilences({ clock });
  for (let time = 0; time < 3; time++) await assert.rejects(ask(question(), never, hang), isSilent);
  await assert.rejects(ask(question(), never, hang), isLeftAlone);
  assert.equal(await ask(question("another"), never, async () => "there"), "there");

  clock.advance(10_001);
  const trying = ask(question(), never, hang);
  await assert.rejects(ask(question(), never, hang), isLeftAlone, "one at a time");
  await assert.rejects(trying, isSilent);
  await assert.rejects(ask(question(), never, hang), isLeftAlone, "it rests again");

  clock.advance(10_001);
  assert.equal(await ask(question("s3 bucket", 60_000), never, async () => "back"), "back");
  assert.equal(await ask(question("s3 bucket", 60_000), never, async () => "well"), "well");
});

test("refusals are answers, and who gives up says nothing of the store", async () => {
  const { ask } = createSilences({ clock: createManualClock() });
  const refuse = async (): Promise<never> => {
    throw new PullError("denied", "no");
  };
  for (let time = 0; time < 2; time++) await assert.rejects(ask(question(), never, hang), isSilent);
  await assert.rejects(ask(question("s3 bucket", 60_000), never, refuse), /^PullError: no$/);
  for (let time = 0; time < 2; time++) await assert.rejects(ask(question(), never, hang), isSilent);
  const gone = new AbortController();
  const asked = ask(question("s3 bucket", 60_000), gone.signal, hang);
  gone.abort(new Error("nobody waits"));
  await assert.rejects(asked, /nobody waits/);
  await assert.rejects(ask(question(), never, hang), isSilent);
});

test("memory is bounded", async () => {
  const { ask } = createSilences({ clock: createManualClock(), enough: 1, maxStores: 2 });
  for (const store of ["a", "b", "c"]) await assert.rejects(ask(question(store), never, hang), isSilent);
  await assert.rejects(ask(question("a"), never, hang), isSilent, "it was forgotten");
  await assert.rejects(ask(question("c"), never, hang), isLeftAlone);
});
