// Owns the faults: how each is made on a whole fleet from outside, and when it is over. The fleet is told of none.
import { z } from "zod";
import { sleep } from "#platform/clock.ts";
import { forgetModel } from "#test/harness/forgetting.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { type Fault, type FaultContext, killAndAwait, type MakeFault, pidOf } from "./fault.ts";
import { restartWhileParked } from "./parked.ts";
import { prepareFullQueue } from "./queue.ts";
import { prepareRefused } from "./refused.ts";
import { prepareBrokenStreams } from "./streams.ts";

export const faults: readonly Fault[] = [
  fault("podKilled", "model server and adapter of a pod are killed at once", ({ fleet }) =>
    killAndAwait(fleet, ["pod-0-server", "pod-0-adapter"]),
  ),
  fault("modelServerKilled", "a model server is killed, its adapter lives", ({ fleet }) => killAndAwait(fleet, ["pod-1-server"])),
  fault("modelForgotten", "a model server forgets ten of the most frequent models; its adapter is not told", forget),
  fault("podFrozen", "model server and adapter of a pod stand still for 20 s and more", (context) =>
    freeze(context, ["pod-0-server", "pod-0-adapter"]),
  ),
  fault("modelServerFrozen", "a model server stands still for 20 s and more, its adapter does not", (context) =>
    freeze(context, ["pod-1-server"]),
  ),
  fault("gatewayKilled", "the gateway is killed and started again", ({ fleet }) => killAndAwait(fleet, ["gateway"])),
  fault("gatewayKilledParked", "the gateway is killed while 1,000 requests wait for loads", restartWhileParked),
  {
    // A model takes some 100 KiB: a third of them fit, so that each is evicted again and again while it is asked for.
    ...fault("hotEvicted", "models are evicted while they are asked for: a third fits", evict),
    ownFleet: true,
    capacityBytes: 2 * 2 ** 20,
    evenModels: 120,
  },
  {
    ...fault("copiesMoved", "every copy of a pod moves to another pod, until it is empty; then it begins anew", moveCopies),
    ownFleet: true,
    // All of them fit on the pod that stays.
    evenModels: 120,
  },
  {
    name: "streamsBroken",
    what: "every connection between Envoy and its gateway is broken: xDS, calls for misses, access logs",
    prepare: prepareBrokenStreams,
  },
  {
    name: "queueFull",
    what: "more requests wait than may: the rest is refused in the right form, and hits go on",
    prepare: prepareFullQueue,
    ownFleet: true,
    // All of them fit, beside what the queue lets load.
    evenModels: 20,
  },
  {
    name: "resourceRefused",
    what: "Envoy refuses the resources of a pod whose address is none",
    prepare: prepareRefused,
  },
];

function fault(name: string, what: string, make: MakeFault): Fault {
  return { name, what, prepare: async () => make };
}

const frozenMs = 20_000;
const forgottenAtOnce = 10;
const mostForgettings = 20;
const movedMs = 60_000;
const podAnswer = z.object({ copies: z.number() });

async function evict({ fleet, traffic }: FaultContext): Promise<void> {
  const { evictions } = await fleet.stats();
  await traffic.more(500);
  await waitUntil(
    "models are evicted",
    async () => (await fleet.stats()).evictions,
    (now) => now > evictions + 50,
  );
}

/**
 * Behind the adapter's back: on the socket where the adapter itself unloads. Until a request has met such a model server:
 * which models are loaded, and asked for next, is the traffic's to say.
 */
async function forget(context: FaultContext): Promise<void> {
  const { fleet, traffic, models } = context;
  const { reroutes } = await fleet.stats();
  for (let round = 0; round < mostForgettings; round++) {
    for (const model of models.slice(0, forgottenAtOnce)) {
      await forgetModel(fleet, model);
      await traffic.more(20);
    }
    if ((await fleet.stats()).reroutes > reroutes) return;
  }
  throw new Error("no request met a model server that had forgotten its model");
}

/** By a drain: each copy is loaded elsewhere and only then taken from the pod. */
async function moveCopies({ fleet, traffic }: FaultContext): Promise<void> {
  const copiesOf = async (pod: string): Promise<number> => {
    const { text } = await fleet.manage("GET", `/api/v1/pods/${pod}`);
    const answer: unknown = JSON.parse(text);
    return podAnswer.parse(answer).copies;
  };
  // A pod that began anew holds nothing until something is loaded: the other one then has all.
  const leaving = (await copiesOf("pod-0")) > 0 ? "pod-0" : "pod-1";
  if ((await copiesOf(leaving)) === 0) throw new Error("the pod that is to be emptied holds nothing");
  const asked = await fleet.manage("POST", `/api/v1/pods/${leaving}/drain`);
  if (asked.status !== 202) throw new Error(`the drain was answered with ${asked.status}: ${asked.text}`);
  await waitUntil(
    "the pod is empty",
    () => copiesOf(leaving),
    (left) => left === 0,
    movedMs,
  );
  await traffic.more(200);
  // A pod that was drained takes nothing on until it is started again.
  await killAndAwait(fleet, [`${leaving}-adapter`]);
}

/** What asks for a model of such a pod is answered by another before the pod moves again. */
async function freeze({ fleet, traffic, signal }: FaultContext, names: readonly string[]): Promise<void> {
  const pids = names.map((name) => pidOf(fleet, name));
  for (const pid of pids) process.kill(pid, "SIGSTOP");
  try {
    await sleep(frozenMs, signal);
    await traffic.more(200);
  } finally {
    for (const pid of pids) process.kill(pid, "SIGCONT");
  }
  await fleet.whenServing();
  await traffic.more(100);
}
