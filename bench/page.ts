// Owns the benchmark `page`: the live page in a real browser over a gateway with twenty thousand warm models, while copies come
// and go.
import { sleep } from "#platform/clock.ts";
import { CopyState } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { openBrowser } from "#test/harness/chromium.ts";
import type { Benchmark, BenchmarkContext } from "./benchmark.ts";
import { readCpuNs } from "./cpu.ts";
import { type FakeFleet, modelName, openFakeFleet, waitFor } from "./fakefleet.ts";
import { median, percentile, roundTo } from "./stats.ts";

export const pageBenchmark: Benchmark = {
  name: "page",
  summary: "the live page in a browser with 20,000 warm models, two hundred copies a second coming and going",
  figures: {
    models: "warm models, each a block of the picture, on 4 pods",
    liveMs: "from asking for the page until it shows all of them, a new browser each time; median",
    fleetBytes: "bytes of the stream until then",
    drawMs: "one drawing of the picture, twice a second; median",
    drawP99Ms: "the same that 99 of 100 do not exceed",
    longestTaskMs: "the longest time that the page did not answer to its user, in ten seconds",
    pageCpuShare: "part of a processor that the page takes in these",
    gatewayCpuShare: "part of a processor that the gateway takes meanwhile, beyond what it takes when nobody looks",
  },
  run: runPage,
};

const podCount = 4;
const perPod = 5_000;
const changesPerSecond = 200;
const watchMs = 10_000;

async function runPage(
  context: BenchmarkContext,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<Record<string, number>> {
  const { say, envoyBinary, rounds, quick } = context;
  const models = podCount * perPod;
  const copy = (at: number, state: CopyState) => ({
    model: modelName(at),
    revision: "r1",
    slot: 0,
    state,
    sizeBytes: BigInt(80_000 + (at % 17) * 4_000),
  });
  const copies = Array.from({ length: podCount }, (_, pod) =>
    Array.from({ length: perPod }, (_, at) => copy(pod * perPod + at, CopyState.READY)),
  );
  say(`${models} warm models on ${podCount} pods that only say so`);
  const fleet = await openFakeFleet({ envoyBinary, registered: models, copies }, signal, stack);
  await waitFor("all routes", signal, async () => (await fleet.management.stats())?.warm === models);
  const browser = await openBrowser();
  stack.defer(() => browser.close());
  const ended = new AbortController();
  stack.defer(() => ended.abort());
  const changing = change(fleet, copy, AbortSignal.any([signal, ended.signal]));
  changing.catch(() => undefined);

  const live: number[] = [];
  let fleetBytes = 0;
  for (let round = 0; round < Math.min(rounds, quick ? 1 : 5); round++) {
    const page = await browser.newPage();
    const startMs = performance.now();
    await page.goto(fleet.adminUrl, { waitUntil: "commit" });
    await page.locator("#link.live").waitFor();
    live.push(performance.now() - startMs);
    await page.close();
  }
  const answer = await fetch(`${fleet.adminUrl}/page/events`, { signal });
  for await (const chunk of answer.body ?? []) {
    fleetBytes += chunk.length;
    if (Buffer.from(chunk).includes("event: whole")) break;
  }

  say("ten seconds without a browser, then ten with one");
  const quiet = await gatewayShare(fleet, watchMs, signal);
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  await page.addInitScript(`
    globalThis.tasks = [];
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
    const get = HTMLCanvasElement.prototype.getContext;
    globalThis.draws = [];
    HTMLCanvasElement.prototype.getContext = function (...args) {
      // A drawing begins with the context and ends with the task that asked for it.
      if (this.id === "columns") { const start = performance.now(); queueMicrotask(() => draws.push(performance.now() - start)); }
      return get.apply(this, args);
    };`);
  await page.goto(fleet.adminUrl);
  await page.locator("#link.live").waitFor();
  await sleep(1_000, signal);
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const taskSeconds = async (): Promise<number> =>
    (await session.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration")?.value ?? Number.NaN;
  await page.evaluate("tasks.length = 0; draws.length = 0");
  const before = await taskSeconds();
  const looked = await gatewayShare(fleet, watchMs, signal);
  const pageCpuShare = ((await taskSeconds()) - before) / (watchMs / 1_000);
  const { tasks, draws } = await page.evaluate<{ readonly tasks: readonly number[]; readonly draws: readonly number[] }>(
    "({ tasks, draws })",
  );
  ended.abort();
  await changing.catch(() => undefined);
  return {
    models,
    liveMs: Math.round(median(live)),
    fleetBytes,
    drawMs: roundTo(median(draws), 1),
    drawP99Ms: roundTo(percentile(draws, 0.99), 1),
    longestTaskMs: Math.round(Math.max(0, ...tasks)),
    pageCpuShare: roundTo(pageCpuShare, 3),
    gatewayCpuShare: roundTo(looked - quiet, 3),
  };
}

/** Copies leave and come back, a few at a time. */
async function change(
  { pods }: FakeFleet,
  copy: (at: number, state: CopyState) => Parameters<FakeFleet["pods"][number]["tell"]>[0][number],
  signal: AbortSignal,
): Promise<void> {
  const pauseMs = 50;
  const each = Math.round((changesPerSecond * pauseMs) / 1_000 / 2);
  for (let step = 0; ; step++) {
    const pod = step % podCount;
    const models = Array.from({ length: each }, (_, at) => pod * perPod + ((step * each + at) % perPod));
    pods[pod]?.tell(models.map((at) => copy(at, CopyState.GONE)));
    await sleep(pauseMs, signal);
    pods[pod]?.tell(models.map((at) => copy(at, CopyState.READY)));
  }
}

async function gatewayShare({ gatewayPid }: FakeFleet, ms: number, signal: AbortSignal): Promise<number> {
  const [beforeNs, startMs] = [readCpuNs(gatewayPid), performance.now()];
  await sleep(ms, signal);
  return (readCpuNs(gatewayPid) - beforeNs) / 1e6 / (performance.now() - startMs);
}
