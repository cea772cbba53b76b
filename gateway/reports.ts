// Owns who hears of the use of a model: its home gateway, which decides on its copies. Every half second, for the models
// used or asked for meanwhile, in one message for each gateway.
import type { Clock } from "#platform/clock.ts";
import type { Home, Member } from "./home.ts";
import type { Peers, PeerUse } from "./peers.ts";
import type { Rates } from "./rates.ts";
import type { ModelUse } from "./usage.ts";

export interface Reports {
  /** A request found no copy. Those that are answered in the end are in the usage too; this counts those that are not. */
  missed(model: string): void;
  send(uses: ReadonlyMap<string, ModelUse>): void;
}

export interface ReportsParts {
  readonly home: Pick<Home, "of">;
  readonly peers: Pick<Peers, "report">;
  readonly rates: Pick<Rates, "add">;
  readonly clock: Pick<Clock, "monotonicMs">;
}

const maxMissed = 100_000;

export function createReports({ home, peers, rates, clock }: ReportsParts): Reports {
  let misses = new Map<string, number>();

  return {
    missed(model) {
      if (misses.size < maxMissed || misses.has(model)) misses.set(model, (misses.get(model) ?? 0) + 1);
    },
    send(uses) {
      const nowMs = clock.monotonicMs();
      const here: PeerUse[] = [];
      const elsewhere = new Map<string, { readonly member: Member; readonly uses: PeerUse[] }>();
      const add = (use: PeerUse): void => {
        const member = home.of(use.model);
        if (member === undefined) {
          here.push(use);
          return;
        }
        const known = elsewhere.get(member.gatewayId) ?? { member, uses: [] };
        known.uses.push(use);
        elsewhere.set(member.gatewayId, known);
      };
      for (const [model, { requests, answered, waited, busyMs, weight, lastUsedMs }] of uses) {
        add({ model, requests, answered, waited, busyMs, weight, idleMs: nowMs - lastUsedMs, misses: misses.get(model) ?? 0 });
      }
      for (const [model, count] of misses) {
        if (!uses.has(model)) add({ model, requests: 0, answered: 0, waited: 0, busyMs: 0, weight: 1, idleMs: 0, misses: count });
      }
      misses = new Map();
      if (here.length > 0) rates.add(here);
      for (const { member, uses: theirs } of elsewhere.values()) peers.report(member, theirs);
    },
  };
}
