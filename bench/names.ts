// Owns what the benchmarks are called, in the order of the report, apart from the benchmarks themselves: who mistypes one hears
// of it before all of them are loaded.
export const benchmarkNames = [
  "start",
  "hit",
  "parts",
  "miss",
  "scale",
  "registry",
  "storm",
  "faults",
  "fleet-faults",
  "density",
  "sim",
  "load",
  "controller",
  "wake",
  "auth",
  "abuse",
  "tracing",
  "page",
] as const;
