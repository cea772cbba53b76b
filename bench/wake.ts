// Owns the benchmark of a runtime that sleeps: the chart's installation on a real Kubernetes with real pods, a runtime that goes
// to zero of them, and a request that is held until one is there again.
import { StartupError } from "#platform/lifecycle.ts";
import { waitUntil } from "#test/harness/wait.ts";
import { type Installation, openInstallation } from "#test/kubernetes/harness/installation.ts";
import { buildInferenceService, onnxRuntime } from "#test/kubernetes/harness/objects.ts";
import { whyNoCluster } from "#test/kubernetes/harness/programs.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { median, roundTo } from "./stats.ts";

const patienceMs = 240_000;
const model = "iris-t0001";

export const wakeBenchmark: Benchmark = {
  name: "wake",
  summary: "a runtime without pods in a real Kubernetes: a held request until its answer",
  figures: {
    rounds: "how often the runtime went to sleep and was woken by a request",
    wakeSeconds: "from the request to its right answer, with no pod there when it came; half are faster",
    wakeSecondsMost: "the longest",
    podSeconds: "of these, until the pod's containers had started; half are faster",
  },
  run,
};

async function run({ rounds, say }: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures> {
  const reason = whyNoCluster();
  if (reason !== undefined) throw new StartupError(reason);
  say("starting a Kubernetes and installing the chart");
  const it = stack.use(await openInstallation(["sleep.enabled=true", "sleep.afterSeconds=5"]));
  await it.apply(onnxRuntime());
  await it.apply(buildInferenceService(model, it.artefact(model)));
  await it.until("isvc", model, "is loaded", (seen) => seen.modelStatus?.states?.activeModelState === "Loaded", patienceMs);
  const wakes: number[] = [];
  const pods: number[] = [];
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted();
    await waitUntil(
      "it sleeps",
      () => it.pods("warmpath.dev/runtime=onnx"),
      (left) => left.length === 0,
      patienceMs,
    );
    const askedAtMs = Date.now();
    const startMs = performance.now();
    const { status, text } = await it.inferIris(model, patienceMs);
    wakes.push((performance.now() - startMs) / 1_000);
    if (status !== 200) throw new Error(`the request was answered ${status}: ${text}`);
    pods.push(((await startedAtMs(it)) - askedAtMs) / 1_000);
    say(`woken in ${roundTo(wakes.at(-1) ?? 0, 2)} s`);
  }
  return {
    rounds,
    wakeSeconds: roundTo(median(wakes), 2),
    wakeSecondsMost: roundTo(Math.max(...wakes), 2),
    podSeconds: roundTo(median(pods), 2),
  };
}

/** When the last of its containers started, as Kubernetes tells it, to the second. */
async function startedAtMs(it: Installation): Promise<number> {
  const pods = await it.pods("warmpath.dev/runtime=onnx");
  const statuses: readonly { readonly state?: { readonly running?: { readonly startedAt: string } } }[] = pods.flatMap(
    ({ status }) => status.containerStatuses ?? [],
  );
  return Math.max(...statuses.map(({ state }) => Date.parse(state?.running?.startedAt ?? "")).filter(Number.isFinite));
}
