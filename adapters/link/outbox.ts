// Owns what one gateway has still to be told, conflated: of each copy the newest state, of gauges and pings the newest.
// Pure: it holds no stream. Invariants: sequence numbers of a stream are those of what is taken here, one after the
// other; a refusal is never lost to conflation, nor told after a later state of the same copy; memory is bounded by the
// number of copies and of the gateway's own questions.
import { type CopyView, copyKey } from "../agent/copies.ts";
import type { ToGateway } from "./messages.ts";
import { buildCopy } from "./messages.ts";

export const maxCopiesPerMessage = 5_000;

export interface Outbox {
  /** The whole holding, told before anything else. */
  snapshot(views: readonly CopyView[]): void;
  /** `withdrawals`: the holding's sequences that want an ack from this gateway. */
  changed(views: readonly CopyView[], withdrawals: readonly number[]): void;
  /** Refusals, pongs, answers: told in order, before changes that came later. */
  said(message: ToGateway): void;
  gauges(message: ToGateway): void;
  /** Messages that cannot be conflated and wait for a gateway that does not read. */
  readonly backlog: number;
  /** The next message; undefined when all is told. */
  take(nowMs: number): ToGateway | undefined;
  /** The holding's withdrawals that an ack of this stream's sequence answers; each once. */
  acked(sequence: bigint): readonly number[];
}

export function createOutbox(): Outbox {
  const snapshots: { readonly copies: readonly CopyView[]; readonly last: boolean }[] = [];
  const said: ToGateway[] = [];
  const changes = new Map<string, CopyView>();
  let withdrawals: number[] = [];
  let gauges: ToGateway | undefined;
  const unacked = new Map<bigint, readonly number[]>();
  let sequence = 1n;

  const takeChanges = (): CopyView[] => {
    const taken: CopyView[] = [];
    for (const [key, view] of changes) {
      changes.delete(key);
      if (taken.push(view) >= maxCopiesPerMessage) break;
    }
    return taken;
  };

  return {
    get backlog(): number {
      return said.length;
    },

    snapshot(views): void {
      const parts = Math.max(1, Math.ceil(views.length / maxCopiesPerMessage));
      for (let part = 0; part < parts; part++) {
        const copies = views.slice(part * maxCopiesPerMessage, (part + 1) * maxCopiesPerMessage);
        snapshots.push({ copies, last: part === parts - 1 });
      }
    },

    changed(views, more): void {
      for (const view of views) {
        const key = copyKey(view);
        // To the end, so that the order of what is told last is the order in which it happened.
        changes.delete(key);
        changes.set(key, view);
      }
      withdrawals.push(...more);
    },

    said: (message) => void said.push(message),
    gauges: (message) => void (gauges = message),

    take(nowMs): ToGateway | undefined {
      const part = snapshots.shift();
      if (part !== undefined) {
        const copies = part.copies.map((view) => buildCopy(view, nowMs));
        return { case: "snapshot", value: { sequence, copies, last: part.last } };
      }
      const first = said.shift();
      if (first !== undefined) return first;
      if (changes.size > 0 || withdrawals.length > 0) {
        const copies = takeChanges().map((view) => buildCopy(view, nowMs));
        sequence += 1n;
        // With the last part of a backlog, when there are several: the parts before it are read by then.
        const withdraw = changes.size === 0 && withdrawals.length > 0;
        if (withdraw) {
          unacked.set(sequence, withdrawals);
          withdrawals = [];
        }
        return { case: "delta", value: { sequence, copies, withdraw } };
      }
      const newest = gauges;
      gauges = undefined;
      return newest;
    },

    acked(acked): readonly number[] {
      const found = unacked.get(acked);
      unacked.delete(acked);
      return found ?? [];
    },
  };
}
