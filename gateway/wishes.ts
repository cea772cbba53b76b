// Owns loads that somebody asks for by name: several copies, a revision that is not the active one, or none to wait for. The
// model's home brings them about, whichever gateway was asked. A wish is not for ever: once it has come about, or has
// failed, or nobody waits, the copies are as any others, but that no lack of demand takes them: only the need of their room does.
import { type Clock, sleep } from "#platform/clock.ts";
import type { Copies } from "./copies.ts";
import type { Failure } from "./failure.ts";
import { copyKey } from "./fleet.ts";
import type { Home } from "./home.ts";
import type { CopiesThere, Peers } from "./peers.ts";

export interface WishAsk {
  readonly copies: number;
  /** Until they are ready or have failed; otherwise it is answered at once. */
  readonly wait: boolean;
  readonly timeoutMs: number;
  /** The caller went away. */
  readonly signal: AbortSignal;
}

export interface Wishes {
  /** By the model's home. */
  load(model: string, revision: string, ask: WishAsk): Promise<CopiesThere | Failure>;
  /** How many copies were wished for last, by this gateway as the home; 0 for none or one. */
  wished(model: string, revision: string): number;
  /** By this gateway, which another one takes for the home. */
  loadHere(model: string, revision: string, ask: WishAsk): Promise<CopiesThere | Failure>;
}

export interface WishesParts {
  readonly copies: Pick<Copies, "want" | "unwant" | "state">;
  readonly home: Pick<Home, "of">;
  readonly peers: Pick<Peers, "load">;
  readonly clock: Clock;
}

const loadPollMs = 20;
/** Of one wish, whoever asks. */
export const maxWishCopies = 1_000;
export const maxWishMs = 3_600_000;
/** Loads that somebody asked for, waited for or not. */
const maxWishes = 1_000;
/** Of so many revisions it is remembered how many copies were wished for. */
const maxRemembered = 10_000;

export function createWishes({ copies, home, peers, clock }: WishesParts): Wishes {
  let wishes = 0;
  const latest = new Map<string, number>();

  function remember(model: string, revision: string, count: number): void {
    const key = copyKey({ model, revision });
    latest.delete(key);
    if (count < 2) return;
    latest.set(key, count);
    for (const oldest of latest.keys()) if (latest.size > maxRemembered) latest.delete(oldest);
  }

  async function settle(model: string, revision: string, ask: WishAsk, by: string): Promise<CopiesThere | Failure> {
    const startMs = clock.monotonicMs();
    try {
      for (;;) {
        const { ready, underWay, failure } = copies.state(model, revision);
        if (ready >= ask.copies) return { kind: "ok", ready, underWay };
        if (failure !== undefined && underWay === 0) return { ...failure, kind: "failed" };
        // Nobody waits for it, and so nobody goes away.
        if (ask.wait && ask.signal.aborted) return refused("cancelled", "the caller went away");
        if (clock.monotonicMs() - startMs >= ask.timeoutMs)
          return lateBy(`${ready} of ${ask.copies} copies were ready in time`, failure);
        await sleep(loadPollMs);
      }
    } finally {
      copies.unwant(model, revision, by);
      wishes -= 1;
    }
  }

  async function loadHere(model: string, revision: string, asked: WishAsk): Promise<CopiesThere | Failure> {
    if (wishes >= maxWishes) return refused("queue-full", `${wishes} loads are asked for already`);
    wishes += 1;
    const ask = {
      ...asked,
      copies: Math.min(Math.max(1, asked.copies), maxWishCopies),
      timeoutMs: Math.min(asked.timeoutMs, maxWishMs),
    };
    const by = `load-${clock.monotonicMs()}-${Math.random()}`;
    copies.want(model, revision, ask.copies, "ensure", { by });
    remember(model, revision, ask.copies);
    const settled = settle(model, revision, ask, by);
    if (ask.wait) return await settled;
    settled.catch(() => undefined);
    const { ready, underWay } = copies.state(model, revision);
    return { kind: "ok", ready, underWay };
  }

  return {
    loadHere,
    wished: (model, revision) => latest.get(copyKey({ model, revision })) ?? 0,
    async load(model, revision, ask) {
      const member = home.of(model);
      if (member === undefined) return await loadHere(model, revision, ask);
      const { copies: wanted, wait, timeoutMs, signal } = ask;
      return await peers.load(member, { model, revision, copies: wanted, wait, timeoutMs }, signal);
    },
  };
}

/** Where it is known what the others lack, that is the answer, rather than that time went by. */
function lateBy(reason: string, failure: Failure | undefined): Failure {
  if (failure === undefined) return refused("deadline-exceeded", reason);
  return { ...failure, reason: `${reason}; of the others: ${failure.reason}` };
}

function refused(code: Failure["code"], reason: string): Failure {
  return { kind: "failed", code, reason };
}
