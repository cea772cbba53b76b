// Owns which benchmarks there are, in the order of the report.
import { abuseBenchmark } from "./abuse.ts";
import { authBenchmark } from "./auth.ts";
import type { Benchmark } from "./benchmark.ts";
import { controllerBenchmark } from "./controller.ts";
import { densityBenchmark } from "./density.ts";
import { faultsBenchmark } from "./faults.ts";
import { fleetFaultsBenchmark } from "./fleetfaults.ts";
import { hitBenchmark } from "./hit.ts";
import { loadBenchmark } from "./loads.ts";
import { missBenchmark } from "./miss.ts";
import { pageBenchmark } from "./page.ts";
import { partsBenchmark } from "./parts.ts";
import { registryBenchmark } from "./registry.ts";
import { scaleBenchmark } from "./scale.ts";
import { simBenchmark } from "./sim.ts";
import { startBenchmark } from "./start.ts";
import { stormBenchmark } from "./storm.ts";
import { tracingBenchmark } from "./tracing.ts";
import { wakeBenchmark } from "./wake.ts";

export const benchmarks: readonly Benchmark[] = [
  startBenchmark,
  hitBenchmark,
  partsBenchmark,
  missBenchmark,
  scaleBenchmark,
  registryBenchmark,
  stormBenchmark,
  faultsBenchmark,
  fleetFaultsBenchmark,
  densityBenchmark,
  simBenchmark,
  loadBenchmark,
  controllerBenchmark,
  wakeBenchmark,
  authBenchmark,
  abuseBenchmark,
  tracingBenchmark,
  pageBenchmark,
];
