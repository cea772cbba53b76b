// Owns `warmpath top`: the gateway's rates and its pods, again and again until it is stopped.
import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import { addGatewayOptions, numberOf, type Options, openSession, type Session, type Terminal, wholeOf } from "./context.ts";
import { formatPods } from "./pods.ts";
import { formatBytes } from "./table.ts";

type Stats = Readonly<Record<string, unknown>>;

export function addTop(program: Command, terminal: Terminal): void {
  addGatewayOptions(program.command("top"))
    .description("hits, misses, waits and pods, live")
    .option("--interval <SECONDS>", "between two looks (default: 1)")
    .option("--count <N>", "end after so many looks (default: 1 when not on a terminal)")
    .action(async (options: Options) => {
      const session = openSession(terminal, options);
      const intervalMs = (wholeOf("--interval", options["interval"], 1, 3_600) ?? 1) * 1_000;
      const count = wholeOf("--count", options["count"], 1, 1_000_000) ?? (terminal.isTerminal ? Number.POSITIVE_INFINITY : 1);
      let before: { readonly stats: Stats; readonly atMs: number } | undefined;
      for (let look = 0; look < count && !terminal.signal.aborted; look++) {
        if (look > 0) await delay(intervalMs, undefined, { signal: terminal.signal }).catch(() => undefined);
        if (terminal.signal.aborted) return;
        const [{ body: stats }, { body: pods }] = await Promise.all([
          session.client.ask("GET", "/api/v1/stats"),
          session.client.ask("GET", "/api/v1/pods"),
        ]);
        const atMs = performance.now();
        const seconds = before === undefined ? undefined : (atMs - before.atMs) / 1_000;
        const was = before?.stats;
        session.show({ stats, ...pods }, () => {
          const clear = terminal.isTerminal && count > 1 ? "\u001B[H\u001B[2J" : "";
          return clear + describe(stats, was, seconds, session) + formatPods(pods, session.paint, terminal.width);
        });
        before = { stats, atMs };
      }
    });
}

function describe(stats: Stats, was: Stats | undefined, seconds: number | undefined, { paint }: Session): string {
  const rate = (key: string): string => {
    const now = numberOf(stats[key]);
    const then = was === undefined ? undefined : numberOf(was[key]);
    if (now === undefined || then === undefined || seconds === undefined || seconds <= 0) return `${now ?? "?"} in all`;
    return `${Math.max(0, Math.round((now - then) / seconds))}/s`;
  };
  const ms = (key: string): string => {
    const value = numberOf(stats[key]);
    return value === undefined ? "-" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
  };
  const [hits, misses] = [numberOf(stats["hits"]) ?? 0, numberOf(stats["misses"]) ?? 0];
  const share = hits + misses === 0 ? "-" : `${((100 * hits) / (hits + misses)).toFixed(2)} %`;
  const count = (key: string): string => `${numberOf(stats[key]) ?? 0}`;
  return [
    `models   ${count("models")} registered, ${paint("green", `${count("warm")} warm`)}, ${count("loading")} loading, ${count("queued")} queued`,
    `hits     ${rate("hits")}   p50 ${ms("hitP50Ms")}   p99 ${ms("hitP99Ms")}   share ${share}`,
    `misses   ${rate("misses")}   p50 ${ms("missP50Ms")}   p99 ${ms("missP99Ms")}   waiting ${count("waiting")}`,
    `loads    ${rate("loads")}   evictions ${rate("evictions")}   failed ${count("loadFailures")}`,
    `memory   ${formatBytes(numberOf(stats["usedBytes"]))} of ${formatBytes(numberOf(stats["capacityBytes"]))}`,
    "",
    "",
  ].join("\n");
}
