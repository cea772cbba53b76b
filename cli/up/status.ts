// Owns what the terminal shows while everything runs: a few lines that are redrawn each second, or one plain line every
// ten seconds where there is no terminal. The texts are pure functions of two readings.
import { errorMessage } from "#core/errors.ts";
import type { Log, LogKeys } from "#platform/log.ts";
import type { Stats } from "./management.ts";

export interface Reading {
  /** Of all gateways together. */
  readonly stats: Stats;
  /** Of each, where there are several; undefined for one that does not answer. */
  readonly gateways?: readonly (Stats | undefined)[];
  readonly atMs: number;
}

const number = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

function ms(value: number | undefined): string {
  if (value === undefined) return "-";
  return value < 10 ? `${value.toFixed(1)} ms` : `${value.toFixed(0)} ms`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function rate(now: number | undefined, before: number | undefined, seconds: number): string {
  if (now === undefined || before === undefined || seconds <= 0) return "-";
  return `${number.format(Math.max(0, now - before) / seconds)}/s`;
}

function bar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width);
  return `${"#".repeat(filled)}${".".repeat(width - filled)}`;
}

/** The block for a terminal, a line each, at most 78 wide. */
export function formatStatus(now: Reading, before: Reading | undefined): readonly string[] {
  const { stats } = now;
  const seconds = before === undefined ? 0 : (now.atMs - before.atMs) / 1_000;
  const rates = (pick: (stats: Stats) => number | undefined): string =>
    rate(pick(stats), before === undefined ? undefined : pick(before.stats), seconds);
  const asked = (stats.hits ?? 0) + stats.misses;
  const share = asked === 0 ? "-" : `${((100 * (stats.hits ?? 0)) / asked).toFixed(2)} %`;
  return [
    `models  ${number.format(stats.models)} registered   ${number.format(stats.warm)} warm   ${stats.loading} loading   ${stats.queued} queued   ${stats.waiting} requests waiting`,
    `memory  [${bar(stats.usedBytes / Math.max(1, stats.capacityBytes), 30)}] ${mebibytes(stats.usedBytes)} of ${mebibytes(stats.capacityBytes)}   ${number.format(stats.evictions)} evictions, ${rates((s) => s.evictions)}`,
    `hits    ${number.format(stats.hits ?? 0).padStart(10)}  ${rates((s) => s.hits).padStart(9)}   p50 ${ms(stats.hitP50Ms)}   p99 ${ms(stats.hitP99Ms)}   share ${share}`,
    `misses  ${number.format(stats.misses).padStart(10)}  ${rates((s) => s.misses).padStart(9)}   p50 ${ms(stats.missP50Ms)}   p99 ${ms(stats.missP99Ms)}`,
    ...formatGateways(now, before, seconds),
  ];
}

function formatGateways({ gateways = [] }: Reading, before: Reading | undefined, seconds: number): readonly string[] {
  if (gateways.length < 2) return [];
  return gateways.map((stats, at) => {
    const name = `gateway-${at}`.padEnd(11);
    if (stats === undefined) return `${name}does not answer`;
    const past = before?.gateways?.[at];
    return `${name}hits ${number.format(stats.hits ?? 0)}, ${rate(stats.hits, past?.hits, seconds)}   misses ${number.format(stats.misses)}, ${rate(stats.misses, past?.misses, seconds)}   ${stats.waiting} requests waiting`;
  });
}

/** One line for a log. */
export function formatLine({ stats }: Reading): string {
  return `warm ${stats.warm} of ${stats.models}, hits ${stats.hits ?? "-"} (p50 ${ms(stats.hitP50Ms)}, p99 ${ms(stats.hitP99Ms)}), misses ${stats.misses} (p50 ${ms(stats.missP50Ms)}, p99 ${ms(stats.missP99Ms)}), evictions ${stats.evictions}`;
}

export interface Screen {
  show(reading: Reading): void;
  /** A line above the block. */
  say(line: string): void;
  /** Leaves the last block standing. */
  end(): void;
}

/**
 * What goes wrong, told above the block in words: lines that anybody else wrote into a terminal would be taken away with the
 * block, and leave a part of it behind.
 */
export function createScreenLog(screen: Pick<Screen, "say">, now: () => Date): Log & Disposable {
  const wrap = (own: LogKeys): Log => {
    const say = (message: string, keys: LogKeys = {}): void => {
      const facts = Object.entries({ ...own, ...keys }).map(
        ([key, value]) => `${key} ${value instanceof Error ? errorMessage(value) : String(value)}`,
      );
      screen.say(
        `${now().toTimeString().slice(0, 8)}  ${[message, ...(facts.length === 0 ? [] : [facts.join(", ")])].join(": ")}`,
      );
    };
    return { debug: () => undefined, info: () => undefined, warn: say, error: say, with: (keys) => wrap({ ...own, ...keys }) };
  };
  return { ...wrap({}), [Symbol.dispose]: () => undefined };
}

const plainEveryMs = 10_000;

export function createScreen(out: Pick<NodeJS.WriteStream, "isTTY" | "columns" | "write">): Screen {
  let drawn = 0;
  let before: Reading | undefined;
  let plainMs = Number.NEGATIVE_INFINITY;
  const erase = (): void => {
    if (drawn > 0) out.write(`\x1b[${drawn}A\x1b[0J`);
    drawn = 0;
  };
  return {
    show(reading) {
      if (!out.isTTY) {
        if (reading.atMs - plainMs >= plainEveryMs) {
          plainMs = reading.atMs;
          out.write(`${formatLine(reading)}\n`);
        }
        return;
      }
      const lines = formatStatus(reading, before).map((line) => line.slice(0, Math.max(20, out.columns - 1)));
      before = reading;
      erase();
      out.write(`${lines.join("\n")}\n`);
      drawn = lines.length;
    },
    say(line) {
      erase();
      out.write(`${line}\n`);
    },
    end() {
      drawn = 0;
    },
  };
}
