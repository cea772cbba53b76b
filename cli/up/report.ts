// Owns the result of a run with traffic: what the clients saw beside what the fleet counted. Pure.
import type { TrafficReport } from "../traffic/report.ts";
import type { Stats } from "./management.ts";

export interface UpReport extends TrafficReport {
  /** Registered. */
  readonly models: number;
  /** How many models of the size that was served fit in all pods at once. */
  readonly capacityModels: number;
  readonly evictions: number;
  readonly loads: number;
  /** Requests that JavaScript of gateway or adapter handled; all of them misses. */
  readonly javascriptRequests: number;
}

export function buildReport(traffic: TrafficReport, before: Stats, after: Stats): UpReport {
  const modelBytes = after.usedBytes / Math.max(1, after.warm);
  return {
    models: after.models,
    capacityModels: modelBytes === 0 ? 0 : Math.floor(after.capacityBytes / modelBytes),
    evictions: after.evictions - before.evictions,
    loads: after.loads - before.loads,
    javascriptRequests: after.javascriptRequests - before.javascriptRequests,
    ...traffic,
  };
}

export function formatReport(report: UpReport): string {
  const time = (value: number | null): string => (value === null ? "-" : `${value.toFixed(1)} ms`);
  return [
    `requests  ${report.requests}: ${report.failed} failed, ${report.wrong} wrong`,
    `hits      ${report.hits}: p50 ${time(report.hitP50Ms)}, p99 ${time(report.hitP99Ms)}`,
    `misses    ${report.misses}: p50 ${time(report.missP50Ms)}, p99 ${time(report.missP99Ms)}`,
    `models    ${report.models} registered, room for ${report.capacityModels}, ${report.evictions} evictions`,
    `requests that JavaScript handled: ${report.javascriptRequests}`,
    ...report.errors.map((error) => `  ${error}`),
  ].join("\n");
}
