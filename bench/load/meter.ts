// Owns the count of one plan: what was answered inside the measured window, how long it took, what went wrong at all.
import { readCpuNs } from "../cpu.ts";
import { quantilesOf } from "../plot.ts";
import { percentile } from "../stats.ts";
import type { LoadResult } from "./plan.ts";

export interface Meter {
  /** An answer as it should be. */
  answered(tookMs: number): void;
  failed(reason: string): void;
  /** The window begins. */
  open(): void;
  close(): LoadResult;
}

const maxReasons = 3;

export function createMeter(watchedPids: readonly number[], stepMs?: number): Meter {
  let tookMs: number[] = [];
  let steps: (number[] | undefined)[] = [];
  let openedMs: number | undefined;
  let cpuNs: number[] = [];
  let ownCpuUs = 0;
  let failed = 0;
  const reasons = new Set<string>();
  return {
    answered(ms) {
      if (openedMs === undefined) return;
      tookMs.push(ms);
      if (stepMs !== undefined) (steps[Math.floor((performance.now() - openedMs) / stepMs)] ??= []).push(ms);
    },
    failed(reason) {
      failed += 1;
      if (reasons.size < maxReasons) reasons.add(reason);
    },
    open() {
      tookMs = [];
      steps = [];
      cpuNs = watchedPids.map(readCpuNs);
      ownCpuUs = cpuOfThis();
      openedMs = performance.now();
    },
    close() {
      const seconds = (performance.now() - (openedMs ?? performance.now())) / 1_000;
      const now = watchedPids.map(readCpuNs);
      openedMs = undefined;
      return {
        requests: tookMs.length,
        failed,
        reasons: [...reasons],
        seconds,
        p50Ms: tookMs.length === 0 ? 0 : percentile(tookMs, 0.5),
        p99Ms: tookMs.length === 0 ? 0 : percentile(tookMs, 0.99),
        quantilesMs: tookMs.length === 0 ? [] : [...quantilesOf(tookMs)],
        // A step without an answer is told too: nobody was answered then.
        steps: Array.from(steps, (times = [], at) => ({
          fromMs: at * (stepMs ?? 0),
          requests: times.length,
          p99Ms: times.length === 0 ? 0 : percentile(times, 0.99),
        })),
        cpuNs: now.map((ns, at) => ns - (cpuNs[at] ?? 0)),
        ownCpuNs: (cpuOfThis() - ownCpuUs) * 1_000,
      };
    },
  };
}

function cpuOfThis(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}
