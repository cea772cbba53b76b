// Rebalancing over an hour of a simulated fleet, as gateways do it: pods' rates averaged over half a minute and known late,
// several gateways that see their own models only and take turns, loads that take a while.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Heat, noHeat, rateOf, warmUp } from "#core/heat.ts";
import type { PodView } from "#core/placement/request.ts";
import { placementRequest, podView } from "#core/placement/testing.ts";
import {
  type CopyUse,
  chooseMoves,
  type Evenness,
  even,
  defaultRebalancePolicy as policy,
  watchEvenness,
} from "#core/rebalance.ts";
import { createRandom } from "./trace.ts";

interface Scene {
  readonly seed: number;
  readonly gateways: number;
  readonly pods: number;
  /** Pods that hold all copies at the beginning; the others are new. */
  readonly filled: number;
  /** Requests per second of each model; on average, with the chance of arrivals. */
  readonly rates: readonly number[];
  readonly seconds: number;
  /** When the demand of the models is dealt out anew. */
  readonly shuffleAt?: number;
}

interface Outcome {
  /** Requests per second of each pod in the end, by the true demand. */
  readonly rates: readonly number[];
  readonly moves: readonly { readonly model: number; readonly at: number }[];
}

const turnSeconds = 60;
const againSeconds = 600;
const loadSeconds = 5;

function run({ seed, gateways, pods, filled, rates, seconds, shuffleAt }: Scene): Outcome {
  const random = createRandom(seed);
  let demand = [...rates];
  const holder = rates.map((_, model) => model % filled);
  const heats: Heat[] = Array.from({ length: pods }, () => noHeat);
  const state: Evenness[] = Array.from({ length: gateways }, () => even);
  const movedAt = new Map<number, number>();
  const moves: { model: number; at: number }[] = [];
  const landing: { model: number; to: number; at: number }[] = [];
  let lastTurn = -1;
  for (let second = 1; second <= seconds; second++) {
    const nowMs = second * 1_000;
    if (second === shuffleAt) demand = demand.map((_, at) => demand[(at * 7 + 3) % demand.length] ?? 0);
    for (; (landing[0]?.at ?? Number.POSITIVE_INFINITY) <= second; ) {
      const landed = landing.shift();
      if (landed !== undefined) holder[landed.model] = landed.to;
    }
    const arrived = Array.from({ length: pods }, () => 0);
    for (const [model, rate] of demand.entries()) {
      const requests = Math.max(0, Math.round(rate * (0.5 + random()) + random() - 0.5));
      const pod = holder[model] ?? 0;
      arrived[pod] = (arrived[pod] ?? 0) + requests;
    }
    for (const [pod, requests] of arrived.entries()) {
      const heat = heats[pod] ?? noHeat;
      if (requests > 0) heats[pod] = warmUp(heat, requests, nowMs);
    }
    const views = heats.map((heat, pod) => viewOf(pod, rateOf(heat, nowMs)));
    const turn = Math.floor(second / turnSeconds);
    const mine = Math.floor(createRandom(turn + 1)() * gateways);
    for (let gateway = 0; gateway < gateways; gateway++) {
      const now = watchEvenness(views, state[gateway] ?? even, policy, nowMs);
      state[gateway] = now;
      if (!now.moving || gateway !== mine || turn === lastTurn || second % turnSeconds >= turnSeconds / 2) continue;
      lastTurn = turn;
      const copiesOn = function* (podId: string): Generator<CopyUse> {
        for (const [model, pod] of holder.entries()) {
          const isFree = second - (movedAt.get(model) ?? -againSeconds) >= againSeconds;
          if (podId === `p${pod}` && model % gateways === gateway && isFree) yield useOf(model, pod, demand[model] ?? 0);
        }
      };
      for (const { model, to } of chooseMoves(views, copiesOn, policy, nowMs)) {
        const at = Number(model.slice(1));
        movedAt.set(at, second);
        moves.push({ model: at, at: second });
        landing.push({ model: at, to: Number(to.slice(1)), at: second + loadSeconds });
      }
    }
  }
  const done = Array.from({ length: pods }, () => 0);
  for (const [model, pod] of holder.entries()) done[pod] = (done[pod] ?? 0) + (demand[model] ?? 0);
  return { rates: done, moves };
}

function viewOf(pod: number, requestsPerSecond: number): PodView {
  return podView(`p${pod}`, { capacityBytes: 1e9, requestsPerSecond });
}

function useOf(model: number, pod: number, requestsPerSecond: number): CopyUse {
  const about = { model: `m${model}`, sizeBytes: 1, holders: new Set([`p${pod}`]), requestsPerSecond };
  return { requestsPerSecond, request: placementRequest({ ...about, waitingUser: false, minAgeMs: 1_800_000 }) };
}

/** A few models are asked for much, most of them little. */
const skewed = (models: number, most: number): number[] => Array.from({ length: models }, (_, at) => most / (at + 1) ** 0.7);
const hour = 3_600;

for (const gateways of [1, 3]) {
  describe(`rebalancing by ${gateways} ${gateways === 1 ? "gateway" : "gateways"}`, { timeout: 120_000 }, () => {
    for (const seed of [1, 2, 3]) {
      test(`new pods get their part of the work, and then nothing moves any more (seed ${seed})`, () => {
        const { rates, moves } = run({ seed, gateways, pods: 8, filled: 6, rates: skewed(300, 40), seconds: hour });
        const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
        assert.ok(Math.max(...rates) <= mean * policy.wide.over, rates.join(", "));
        assert.ok(Math.min(...rates) >= mean * policy.wide.under, rates.join(", "));
        assert.ok(moves.length > 0 && moves.length < 150, `${moves.length} moves`);
        assert.deepEqual(
          moves.filter(({ at }) => at > hour / 2),
          [],
        );
        assert.equal(new Set(moves.map(({ model }) => model)).size, moves.length, "none moved twice");
      });

      test(`one crowded pod among even ones is relieved (seed ${seed})`, () => {
        const rates = Array.from({ length: 120 }, (_, at) => (at % 6 === 0 ? 8 : 2));
        const done = run({ seed, gateways, pods: 6, filled: 6, rates, seconds: hour });
        const mean = done.rates.reduce((sum, rate) => sum + rate, 0) / done.rates.length;
        assert.ok(Math.max(...done.rates) <= mean * policy.wide.over, done.rates.join(", "));
        assert.deepEqual(
          done.moves.filter(({ at }) => at > hour / 2),
          [],
        );
      });

      test(`even pods are left alone, however the requests come (seed ${seed})`, () => {
        const rates = Array.from({ length: 120 }, () => 2);
        assert.deepEqual(run({ seed, gateways, pods: 6, filled: 6, rates, seconds: hour }).moves, []);
      });
    }

    test("a demand that changes is followed, and then it is quiet again", () => {
      const shuffleAt = hour / 2;
      const { rates, moves } = run({
        seed: 4,
        gateways,
        pods: 8,
        filled: 8,
        rates: skewed(300, 40),
        seconds: 2 * hour,
        shuffleAt,
      });
      const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
      assert.ok(Math.max(...rates) <= mean * policy.wide.over, rates.join(", "));
      assert.deepEqual(
        moves.filter(({ at }) => at > 1.5 * hour),
        [],
      );
    });
  });
}
