// Owns a holding under test: who asks it, and what of its effects the tests look at.
import assert from "node:assert/strict";
import type { LoadClass } from "#core/loadqueue.ts";
import { parseRevision } from "#core/model.ts";
import type { HoldingEffect, HoldingEvent } from "../agent/events.ts";
import { createHolding, type Holding, type HoldingOptions } from "../agent/holding.ts";

export interface Bench {
  readonly holding: Holding;
  nowMs: number;
  step(event: HoldingEvent): readonly HoldingEffect[];
  ask(model: string, options?: AskOptions): readonly HoldingEffect[];
  /** Asked by a user, loaded, ready. */
  make(model: string, sizeBytes?: number): void;
  loaded(model: string, sizeBytes?: number): readonly HoldingEffect[];
  state(model: string): string | undefined;
}

interface AskOptions {
  readonly gatewayId?: string;
  readonly revision?: string;
  readonly loadClass?: LoadClass;
  readonly waitMs?: number;
  readonly idleMs?: number;
  readonly hint?: number | undefined;
  readonly tenant?: string;
  readonly tenantBytes?: number;
}

export function createBench(options: Partial<HoldingOptions> = {}): Bench {
  const holding = createHolding({ capacityBytes: 300, loadConcurrency: 1, ...options });
  const bench: Bench = {
    holding,
    nowMs: 1_000,
    step: (event) => holding.step(event, bench.nowMs),
    ask(model, { gatewayId = "g1", revision: id = "r1", loadClass = "waiting-user", waitMs = 10_000, idleMs = 0, ...rest } = {}) {
      const hint = "hint" in rest ? rest.hint : 100;
      const { tenant, tenantBytes } = rest;
      const parsed = parseRevision({
        id,
        slot: 0,
        format: "onnx",
        storageUri: "file:///m",
        ...(hint === undefined ? {} : { sizeHintBytes: hint }),
      });
      assert.ok(parsed.kind === "ok");
      const { revision } = parsed;
      const asked = { gatewayId, model, revision, serverName: model, loadClass, waitMs, idleMs, tenant, tenantBytes };
      return bench.step({ kind: "load-asked", ...asked });
    },
    make(model, sizeBytes = 100): void {
      bench.ask(model, { hint: sizeBytes });
      assert.equal(bench.state(model), "loading");
      bench.loaded(model, sizeBytes);
    },
    loaded: (model, sizeBytes = 100) => bench.step({ kind: "loaded", key: `${model}@r1`, sizeBytes, measured: true }),
    state: (model) => holding.view(`${model}@r1`)?.state,
  };
  bench.step({ kind: "gateway-attached", gatewayId: "g1" });
  bench.step({ kind: "server-up", held: [] });
  return bench;
}

export const kinds = (effects: readonly HoldingEffect[]): string[] => effects.map(({ kind }) => kind);
export const loads = (effects: readonly HoldingEffect[]): string[] =>
  effects.flatMap((e) => (e.kind === "load" ? [e.key.slice(0, -3)] : []));
export const admitted = (effects: readonly HoldingEffect[]): string[] =>
  effects.flatMap((e) => (e.kind === "admit" ? [e.key.slice(0, -3)] : []));
export const states = (effects: readonly HoldingEffect[]): Record<string, string> =>
  Object.fromEntries(
    effects.flatMap((e) => (e.kind === "publish" || e.kind === "tell" ? e.changes.map((c) => [c.model, c.state]) : [])),
  );
export const refusals = (effects: readonly HoldingEffect[]): string[] =>
  effects.flatMap((e) => (e.kind === "refuse" ? [`${e.gatewayId} ${e.model} ${e.why}`] : []));
