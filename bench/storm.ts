// Owns the storm: many different cold models asked for at once on a full fleet, with hot traffic beside it.
// Real Envoy, real gateway, real adapters; only the model servers are timed, so that the ideal is known: loads x time of
// a load / loads at a time. Quiet and storm have their turns in one run, so both meet the same machine. What a hit passes, and
// who times it, has one half of the processors and all else the other, as `--hit-processors` does it: a storm may take nothing
// from hits but what Envoy itself does for it. Once more all share all, which tells how this machine's scheduler does.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Division } from "#cli/up/processors.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { halveProcessors, moveSelf, nodeOn } from "./children.ts";
import { modelName, openFakeFleet } from "./fakefleet.ts";
import type { LoadResult } from "./load/plan.ts";
import { openLoadProcess } from "./load/process.ts";
import { askAtOnce } from "./parked.ts";
import { openTimedPodProcess, type TimedPodProcess } from "./timedpod/process.ts";

interface Storm {
  /** Models asked for at once. */
  readonly cold: number;
  readonly loadMs: number;
  /** Copies that fit beside the hot ones. */
  readonly room: number;
}

const pods = 4;
const loadConcurrency = 2;
const hot = 32;
const storms = {
  roomy: { cold: 1_000, loadMs: 150, room: 1_024 },
  tight: { cold: 1_000, loadMs: 150, room: 256 },
  slow: { cold: 200, loadMs: 1_000, room: 1_024 },
} as const satisfies Record<string, Storm>;
const hotClients = 32;
/** Evenly, however long answers take: a closed loop would ask less of a slow gateway, and its times would tell of its own speed. */
const hotPerSecond = 200;
const settleMs = 1_000;
/** Of the timeline. */
const stepMs = 250;

export const stormBenchmark: Benchmark = {
  name: "storm",
  summary:
    "a thousand cold models at once on a full fleet, with hot traffic beside; `tight` with room for 256, `slow` 200 loads of 1 s",
  figures: {
    cold: "models asked for at once",
    failed: "requests that were not answered, cold and hot",
    timeOverIdeal: "time until the last one was answered, over loads x load time / loads at a time",
    loadsPerSecond: "loads in that time",
    hotP99Ratio:
      "99th percentile of the hot requests (200 a second, an open loop) during the storm, over that of the same traffic without it; client, Envoy and model servers on one half of the processors, gateway and adapters on the other",
    hotP99RatioShared: "the same where all share all processors",
    hotP99Ms: "that percentile during the storm, and",
    quietP99Ms: "without it",
    hotP50Ratio: "the same of the median",
    loadsOverCold: "loads that took place for each model asked for: 1 when nothing is loaded twice",
    hotLoads: "hot models that had to be loaded again because the storm had pushed them out",
  },
  async run(context, signal): Promise<Figures> {
    const division = await halveProcessors();
    if (division === undefined) context.say("there is but one processor, which all share");
    const run = async (name: string, storm: Storm, on: Division | undefined): Promise<Figures> =>
      await runStorm(name, context.quick ? { ...storm, cold: storm.cold / 10 } : storm, on, context, signal);
    const shared = await run("shared", storms.roomy, undefined);
    const roomy = await run("roomy", storms.roomy, division);
    const tight = await run("tight", storms.tight, division);
    const slow = await run("slow", storms.slow, division);
    return { ...roomy, hotP99RatioShared: shared["hotP99Ratio"] ?? Number.NaN, tight, slow };
  },
};

async function runStorm(
  name: string,
  storm: Storm,
  division: Division | undefined,
  context: BenchmarkContext,
  signal: AbortSignal,
): Promise<Figures> {
  await using stack = new AsyncDisposableStack();
  const { cold, loadMs, room } = storm;
  if (division !== undefined) stack.use(await moveSelf(division.others));
  const [onHits, onOthers] = [await nodeOn(division?.hits), await nodeOn(division?.others)];
  const perPod = (room + hot) / pods;
  const timed: TimedPodProcess[] = [];
  const openPod = async (at: number, registryFile: string, address: string): Promise<TimedPodProcess> => {
    // Hot ones first, then as many old ones as there is room for: the fleet is full.
    const held = Array.from({ length: perPod }, (_, copy) =>
      modelName(copy < hot / pods ? at * (hot / pods) + copy : hot + cold + at * perPod + copy),
    );
    const options = { podId: `pod-${at}`, loadMs, loadConcurrency, room: perPod, held };
    const pod = await openTimedPodProcess({ ...options, registryFile, address }, onOthers);
    timed.push(pod);
    return pod;
  };
  const fleet = await openFakeFleet(
    {
      envoyBinary: context.envoyBinary,
      registered: hot + cold + pods * perPod,
      copies: [],
      division,
      others: Array.from({ length: pods }, (_, at) => (registryFile, address) => openPod(at, registryFile, address)),
    },
    signal,
    stack,
  );
  const file = join(fleet.folder, "requests.json");
  const requestOf = (at: number): { path: string; body: string } => ({ path: `/v2/models/${modelName(at)}/infer`, body });
  await writeFile(file, JSON.stringify({ hot: Array.from({ length: hot }, (_, at) => requestOf(at)) }));
  const load = stack.use(openLoadProcess(file, onHits));
  const loads = async (): Promise<number> =>
    (await Promise.all(timed.map((pod) => pod.loads()))).reduce((sum, one) => sum + one, 0);
  const idealMs = (cold * loadMs) / (pods * loadConcurrency);
  const traffic = async (measureMs: number) =>
    await load.run(
      {
        wire: "rest",
        requests: "hot",
        ...fleet.hit,
        concurrency: hotClients,
        requestsPerSecond: hotPerSecond,
        settleMs,
        measureMs,
        watchedPids: [],
        stepMs,
      },
      signal,
    );
  context.say(`${name}: quiet`);
  const before = await traffic(idealMs / 2);
  const loadsBefore = await loads();
  context.say(`${name}: ${cold} cold models, ideally ${Math.round(idealMs)} ms`);
  const beside = traffic(idealMs);
  const startMs = performance.now();
  const asked = await askAtOnce(
    fleet.hit,
    Array.from({ length: cold }, (_, at) => requestOf(hot + at)),
    signal,
  );
  const tookMs = performance.now() - startMs;
  const during = await beside;
  const done = (await loads()) - loadsBefore;
  const after = await traffic(idealMs / 2);
  for (const reason of [...asked.reasons, ...before.reasons, ...during.reasons, ...after.reasons])
    context.say(`${name}: ${reason}`);
  keepTimeline(name, asked.answeredMs, idealMs, [before, during, after], context);
  const quietP99Ms = (before.p99Ms + after.p99Ms) / 2;
  const hotLoads = Math.max(0, done - cold);
  return {
    cold,
    failed: asked.failed + before.failed + during.failed + after.failed,
    timeOverIdeal: round(tookMs / idealMs),
    loadsPerSecond: round((done * 1_000) / tookMs),
    hotP99Ratio: round(during.p99Ms / quietP99Ms),
    hotP99Ms: round(during.p99Ms),
    quietP99Ms: round(quietP99Ms),
    hotP50Ratio: round(during.p50Ms / ((before.p50Ms + after.p50Ms) / 2)),
    loadsOverCold: round(done / cold),
    hotLoads,
  };
}

/** The cold requests were sent with the start of the settling before the second window. */
function keepTimeline(
  name: string,
  answeredMs: readonly number[],
  idealMs: number,
  windows: readonly LoadResult[],
  { keep }: BenchmarkContext,
): void {
  const seconds = (ms: number): number => Number((ms / 1_000).toFixed(2));
  const every = Math.max(1, Math.floor(answeredMs.length / 100));
  const answered = answeredMs.flatMap((ms, at) => (at % every === 0 ? [[seconds(ms), at + 1] as const] : []));
  const last = answeredMs.at(-1) ?? 0;
  keep({
    title: `Storm ${name}: cold requests answered, all asked for at 0 s`,
    x: { label: "s" },
    y: { label: "answered" },
    lines: [
      { name: "answered", points: [[0, 0], ...answered, [seconds(last), answeredMs.length]] },
      {
        name: "as fast as the loads could be",
        points: [
          [0, 0],
          [seconds(idealMs), answeredMs.length],
        ],
        isReference: true,
      },
    ],
  });
  const [before, during, after] = windows.map(({ steps }) => steps);
  const line = (steps: LoadResult["steps"] = [], fromMs: number): readonly (readonly [number, number])[] =>
    steps.map((step) => [seconds(fromMs + step.fromMs), Number(step.p99Ms.toFixed(2))] as const);
  const quietMs = (before?.length ?? 0) * stepMs;
  keep({
    title: `Storm ${name}: hot requests beside it, 99th percentile of each ${stepMs} ms`,
    x: { label: "s; the storm begins at 0" },
    y: { label: "ms", scale: "log" },
    lines: [
      { name: "before", points: line(before, -quietMs) },
      { name: "during the storm", points: line(during, settleMs) },
      { name: "after", points: line(after, Math.max(last, settleMs + (during?.length ?? 0) * stepMs) + settleMs) },
    ],
  });
}

const body = JSON.stringify({ inputs: [{ name: "x", shape: [1], datatype: "FP32", data: [0] }] });

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
