// Owns how Envoy is started. The chart says the same in its own words.

/** `workers`: threads that serve requests. */
export function envoyArguments(bootstrapFile: string, workers: number): string[] {
  return ["--config-path", bootstrapFile, "--log-level", "warning", "--disable-hot-restart", "--concurrency", `${workers}`];
}
