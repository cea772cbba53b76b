// Owns loads that somebody asks for by name: several copies, a revision that is not the active one, or none to wait for. A
// wish is not for ever: once it has come about, or has failed, or nobody waits, the copies are as any others.
import type { ErrorCode } from "#core/errors.ts";
import type { Refusal } from "#core/revision.ts";
import { type Clock, sleep } from "#platform/clock.ts";
import type { Copies } from "../copies.ts";
import type { Home } from "../home.ts";
import type { LoadAsk, Loaded, Outcome } from "./models.ts";

export interface Wishes {
  load(name: string, revision: string, ask: LoadAsk): Promise<Outcome<Loaded>>;
}

export interface WishesParts {
  readonly copies: Copies;
  readonly home: Pick<Home, "of">;
  readonly clock: Clock;
}

const loadPollMs = 20;
/** Loads that somebody asked for, waited for or not. */
const maxBackground = 1_000;

export function createWishes({ copies, home, clock }: WishesParts): Wishes {
  let background = 0;
  return {
    async load(name, revision, ask) {
      const startMs = clock.monotonicMs();
      const by = `load-${startMs}-${Math.random()}`;
      const wanted = ask.copies;
      const elsewhere = home.of(name)?.gatewayId;
      if (elsewhere !== undefined) {
        const reason = `gateway '${elsewhere}' is the home of model '${name}' and loads more than a copy of the active revision: ask it, or set minCopies`;
        return refused("unavailable", reason);
      }
      if (background >= maxBackground) return refused("queue-full", `${background} loads are asked for already`);
      background += 1;
      const state = (): Loaded => {
        const { ready, underWay } = copies.state(name, revision);
        return { name, revision, ready, underWay, waitedMs: Math.round(clock.monotonicMs() - startMs) };
      };
      copies.want(name, revision, wanted, "ensure", { by });
      const settle = async (): Promise<Outcome<Loaded>> => {
        try {
          for (;;) {
            const now = copies.state(name, revision);
            if (now.ready >= wanted) return { kind: "ok", value: state() };
            const { failure } = now;
            if (failure !== undefined && now.underWay === 0) return { ...failure, kind: "refused" };
            if (ask.signal.aborted) return refused("cancelled", "the caller went away");
            if (clock.monotonicMs() - startMs >= ask.timeoutMs)
              return refused("deadline-exceeded", `${now.ready} of ${wanted} copies were ready in time`);
            await sleep(loadPollMs);
          }
        } finally {
          // Copies stay until their room is needed; a wish is not for ever.
          copies.unwant(name, revision, by);
          background -= 1;
        }
      };
      const settled = settle();
      if (ask.wait) return await settled;
      settled.catch(() => undefined);
      return { kind: "ok", value: state() };
    },
  };
}

function refused(code: ErrorCode, reason: string): Refusal {
  return { kind: "refused", code, reason };
}
