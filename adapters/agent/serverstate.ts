// Owns whether the model server is there, and from when on loads had better go elsewhere. Pure.
//
//   unseen --came--> up --silent-------------------------> away
//                    ^ \--died--> down --after patienceMs--> away    (what waits is served here when it is back soon)
//                    +--------------came---------------------+
export interface ServerState {
  readonly up: boolean;
  /** Why loads go elsewhere now; undefined: they are taken. */
  away(nowMs: number): string | undefined;
  /** When it will be away, should it not come back. */
  awayAtMs(): number | undefined;
  came(): void;
  lost(silent: boolean, nowMs: number): void;
}

const stillness = "the model server does not answer";
const absence = "the model server is not running";

export function createServerState(patienceMs: number): ServerState {
  type State = { readonly kind: "unseen" | "up" | "silent" } | { readonly kind: "down"; readonly sinceMs: number };
  let state: State = { kind: "unseen" };
  return {
    get up(): boolean {
      return state.kind === "up";
    },
    away(nowMs): string | undefined {
      if (state.kind === "silent") return stillness;
      return state.kind === "down" && nowMs - state.sinceMs >= patienceMs ? absence : undefined;
    },
    awayAtMs: () => (state.kind === "down" ? state.sinceMs + patienceMs : undefined),
    came(): void {
      state = { kind: "up" };
    },
    lost(silent, nowMs): void {
      state = silent ? { kind: "silent" } : { kind: "down", sinceMs: nowMs };
    },
  };
}
