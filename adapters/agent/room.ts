// Owns the making of room: which loads in hand start now, and which copies leave for them.
//
// Invariants:
// - Used + reserved bytes exceed the capacity only by what copies measured more than was predicted (or held when the
//   adapter started), and evictions repay that at once. Used counts a leaving copy until it is unloaded.
// - A load starts only when its predicted bytes are free and no other copy has its name on the model server.
// - While the model server takes more than its limit, no load starts before what leaves is unloaded.
// - What was taken in hand earlier is never overtaken by a later one that would take the room made for it.
// - Nothing that is used much leaves for what is asked for much less: such a load waits a little, and is then refused.
// - A load whose tenant may not take more here lets go of that tenant's own copies first, and of nobody else's for it; where
//   they do not suffice it is refused.
// - For background loads no copy leaves that was used within the anti-thrash age: they are parked until there is one.
import { chooseVictims, type EvictionRequest } from "#core/placement/evict.ts";
import type { Ask, Asks } from "./asks.ts";
import type { Ledger } from "./ledger.ts";
import type { Weights } from "./weights.ts";

export interface RoomOptions {
  readonly headroomBytes: number;
  readonly minAgeMs: number;
}

export interface RoomActions {
  readonly allowance: Weights["allowance"];
  /** Loads under way, but for those that stand still. */
  loading(): number;
  /** Asks in hand that wait for a store which says nothing; or asked and left. */
  stalledProbes(nowMs: number): number;
  /** Undefined: the artefact must be looked up first. */
  neededBytes(ask: Ask, nowMs: number): number | undefined;
  probe(ask: Ask): void;
  /** `by`: the load that it makes room for, if one. */
  leave(key: string, by?: Ask): void;
  start(ask: Ask, reservedBytes: number): void;
  refuse(ask: Ask, reason: string, why?: "no-room" | "over-quota"): void;
}

export interface Room {
  make(nowMs: number): void;
  /** Lets copies of the tenant go until they take no more than so much, as far as they are there already. */
  trim(tenant: string, bytes: number, nowMs: number): void;
  nextDueMs(): number | undefined;
}

const parkedRetryMs = 100;
/** How long a load waits for hot copies to cool down. */
const hotPatienceMs = 2_000;
/** Copies used more recently than this part of the anti-thrash age do not leave for headroom. */
const headroomAgePart = 0.1;

export function createRoom(ledger: Ledger, asks: Asks, options: RoomOptions, actions: RoomActions): Room {
  const { headroomBytes, minAgeMs } = options;
  const { allowance } = actions;
  let parkedUntilMs = 0;

  /** The bytes that will be free in time, or why there are none. */
  const evict = (
    neededBytes: number,
    freeBytes: number,
    nowMs: number,
    rule: Pick<EvictionRequest<string>, "waitingUser" | "minAgeMs" | "candidates" | "requestsPerSecond">,
    by?: Ask,
  ): number | "too-young" | "too-hot" | "not-enough" => {
    const chosen = chooseVictims({ neededBytes, freeBytes, nowMs, ...rule });
    if (chosen.kind === "no-room") return chosen.why;
    for (const victim of chosen.victims) actions.leave(victim.key, by);
    return chosen.freedBytes;
  };

  const repay = (nowMs: number): void => {
    const aboveBytes = ledger.usedBytes + ledger.reservedBytes - ledger.leavingBytes - allowance.bytes;
    const overBytes = Math.max(aboveBytes, allowance.takeOwed());
    if (overBytes <= 0) return;
    const candidates = ledger.candidates(nowMs);
    evict(overBytes, 0, nowMs, { waitingUser: true, requestsPerSecond: Number.POSITIVE_INFINITY, minAgeMs, candidates });
  };

  /** Twice as many as may load at a time: while some load, room is made for the next ones. */
  const fillHand = (nowMs: number): void => {
    if (asks.parked > 0 && nowMs >= parkedUntilMs) {
      asks.unpark();
      parkedUntilMs = nowMs + parkedRetryMs;
    }
    let inHand = asks.hand().length - actions.stalledProbes(nowMs);
    while (inHand + actions.loading() < 2 * allowance.loadConcurrency && asks.take(nowMs) !== undefined) inHand += 1;
  };

  /**
   * Lets copies of the load's own tenant go until it is within what the tenant may take here. `promisedBytes`: to loads of
   * the same tenant that come before it. Undefined: it is not to go on now.
   */
  const keepQuota = (ask: Ask, neededBytes: number, promisedBytes: number, nowMs: number): number | undefined => {
    const { tenant, tenantBytes } = ask;
    if (tenant === undefined || tenantBytes === undefined) return 0;
    const { bytes, loadingBytes } = ledger.bytesOf(tenant);
    const overBytes = bytes + promisedBytes + neededBytes - tenantBytes;
    if (overBytes <= 0) return 0;
    const candidates = ledger.candidates(nowMs, tenant);
    // By use alone: all of them are the tenant's, and it is the tenant that is held to less.
    const rule = { waitingUser: true, minAgeMs, requestsPerSecond: Number.POSITIVE_INFINITY, candidates };
    const evicted = neededBytes > tenantBytes ? "not-enough" : evict(overBytes, 0, nowMs, rule, ask);
    if (typeof evicted === "number") return evicted;
    // What still loads, or is promised, may leave for it later.
    if (neededBytes <= tenantBytes && loadingBytes + promisedBytes > 0) park(ask, "too-young", nowMs);
    else actions.refuse(ask, `it takes ${neededBytes} bytes, and its tenant may have ${tenantBytes} here`, "over-quota");
    return undefined;
  };

  const park = (ask: Ask, why: "too-young" | "too-hot", nowMs: number): void => {
    parkedUntilMs = Math.max(parkedUntilMs, nowMs + parkedRetryMs);
    if (why === "too-hot") {
      ask.hotSinceMs ??= nowMs;
      if (nowMs - ask.hotSinceMs >= hotPatienceMs) return actions.refuse(ask, "all that could leave is used much more than it");
    }
    if (!asks.park(ask)) actions.refuse(ask, "every copy was used too recently to make room for it");
    return undefined;
  };

  /** Only of copies no larger than itself: no large copy is given up before somebody needs its room. */
  const keepHeadroom = (freeBytes: number, nowMs: number): void => {
    if (freeBytes >= headroomBytes) return;
    const candidates = ledger.candidates(nowMs).filter(({ sizeBytes }) => sizeBytes <= headroomBytes);
    evict(headroomBytes, freeBytes, nowMs, { waitingUser: false, minAgeMs: minAgeMs * headroomAgePart, candidates });
  };

  return {
    trim(tenant, bytes, nowMs): void {
      let overBytes = ledger.bytesOf(tenant).bytes - bytes;
      for (const { key, sizeBytes, pinned } of Array.from(ledger.candidates(nowMs, tenant))) {
        if (overBytes <= 0) return;
        if (pinned) continue;
        actions.leave(key);
        overBytes -= sizeBytes;
      }
    },

    make(nowMs): void {
      repay(nowMs);
      fillHand(nowMs);
      let freeBytes = allowance.bytes - ledger.usedBytes - ledger.reservedBytes;
      let comingBytes = ledger.leavingBytes;
      // What leaves for a limit that is exceeded leaves before anything else is loaded.
      const owing = allowance.exceeded && comingBytes > 0;
      let waiting = 0;
      const promised = new Map<string | undefined, number>();
      for (const ask of asks.hand()) {
        const neededBytes = actions.neededBytes(ask, nowMs);
        if (neededBytes === undefined) {
          actions.probe(ask);
          continue;
        }
        if (neededBytes > allowance.capacityBytes) {
          actions.refuse(ask, neverFits(neededBytes, allowance.capacityBytes));
          continue;
        }
        const holder = ledger.holderOf(ask.serverName);
        if (holder?.state === "ready") {
          // Another revision in the same slot, which is free again: it is wanted no more.
          actions.leave(holder.key, ask);
          comingBytes += holder.sizeBytes;
        }
        const promisedBytes = promised.get(ask.tenant) ?? 0;
        const ownBytes = keepQuota(ask, neededBytes, promisedBytes, nowMs);
        if (ownBytes === undefined) continue;
        promised.set(ask.tenant, promisedBytes + neededBytes);
        comingBytes += ownBytes;
        if (neededBytes > freeBytes + comingBytes) {
          const waitingUser = ask.loadClass === "waiting-user";
          const { requestsPerSecond } = ask;
          const rule = { waitingUser, minAgeMs, requestsPerSecond, candidates: ledger.candidates(nowMs) };
          const evicted = evict(neededBytes, freeBytes + comingBytes, nowMs, rule, ask);
          if (evicted === "not-enough") {
            // Copies that still load will be candidates; until then nothing behind it may take its room.
            if (actions.loading() > 0 || waiting > 0) break;
            actions.refuse(ask, `it takes ${neededBytes} bytes, and no more than ${allowance.bytes} can be had here now`);
            continue;
          }
          if (evicted === "too-young" || evicted === "too-hot") {
            park(ask, evicted, nowMs);
            continue;
          }
          comingBytes += evicted;
        }
        if (holder === undefined && neededBytes <= freeBytes && actions.loading() < allowance.loadConcurrency && !owing) {
          actions.start(ask, neededBytes);
          freeBytes -= neededBytes;
        } else {
          waiting += 1;
          const fromFree = Math.min(freeBytes, neededBytes);
          freeBytes -= fromFree;
          comingBytes -= neededBytes - fromFree;
        }
      }
      keepHeadroom(freeBytes + comingBytes, nowMs);
    },

    nextDueMs: () => (asks.parked > 0 ? parkedUntilMs : undefined),
  };
}

export function neverFits(neededBytes: number, capacityBytes: number): string {
  return `it takes ${neededBytes} bytes, and the whole pod has ${capacityBytes}`;
}
