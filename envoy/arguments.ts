// Owns how Envoy is started. The chart says the same in its own words.

/** `workers`: threads that serve requests; `logLevel`: Envoy's name of it. */
export function envoyArguments(bootstrapFile: string, workers: number, logLevel = "warning"): string[] {
  return ["--config-path", bootstrapFile, "--log-level", logLevel, "--disable-hot-restart", "--concurrency", `${workers}`];
}
