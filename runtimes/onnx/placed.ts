// Owns where models live: quick ones in the main thread, where a hit costs nothing more, the others in threads, where they hold
// up nobody but each other. Which is which is guessed from the file, and then seen from how long runs take.
//
//              small, steady operators           small, other operators             large
//                       |                               |                             |
//                       v           quick 16 times      v                             v
//                 in the main <------------------- on trial in       slow       in a thread
//                   thread                          a thread  --------------->    for good
//                       |                                 slow                        ^
//                       +-------------------------------------------------------------+
//
// A session cannot move between threads: it is created anew in the other place, from the same file, while the old one serves
// and then ends its requests. Where the file is gone, has changed, or there is no room, the model stays where it is.
import type { Refusal } from "./refusal.ts";
import type { ModelFacts } from "./scan.ts";
import type { LoadFailure, NamedTensor, Port, Session, WhenGone } from "./session.ts";

export type Place = "main" | "trial" | "thread";

/** What a create may take of the main thread. */
const quickCreateMs = 4;
/** What a run may take there, of processor time. */
const quickRunMs = 2;
/** A single run of so long is no accident, such as a pause of the garbage collector. */
const slowRunMs = 20;
const slowRunsInARow = 3;
const quickRunsOfTrial = 16;

/** Where a model is created; `wasSlow` when this revision was found to be slow before. */
export function choosePlace(facts: ModelFacts, wasSlow: boolean): Place {
  if (wasSlow || facts.external || predictCreateMs(facts) > quickCreateMs) return "thread";
  return facts.steady ? "main" : "trial";
}

/** Fitted to creates on one core of a server of 2024; sizes.ts has the bytes in the same way. README.md says how to measure. */
export function predictCreateMs({ nodes, weightBytes, treeBytes }: ModelFacts): number {
  return 0.6 + 0.024 * nodes + 3.2e-6 * weightBytes + 25e-6 * treeBytes;
}

export interface Moves {
  /** A session of the same model in the other place; its runs too are told to `ran`. */
  readonly open: (place: "main" | "thread") => Promise<Session | LoadFailure>;
  readonly moved: (place: "main" | "thread", cpuMs: number) => void;
  readonly stayed: (reason: string, cpuMs: number) => void;
}

/** A session and what runs on it. */
interface Home {
  readonly session: Session;
  running: number;
  /** Called when nothing runs any more, once the model has moved away. */
  idle: (() => void) | undefined;
}

/** A model that may move. */
export class PlacedSession implements Session {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly #moves: Moves;
  #place: Place;
  #home: Home;
  #quickRuns = 0;
  #slowRuns = 0;
  /** The one move, and the release of the session that was left. */
  #move: Promise<void> | undefined;
  #released = false;

  constructor(first: Session, place: "main" | "trial", moves: Moves) {
    this.inputs = first.inputs;
    this.outputs = first.outputs;
    this.#home = { session: first, running: 0, idle: undefined };
    this.#place = place;
    this.#moves = moves;
  }

  async run(
    inputs: readonly NamedTensor[],
    outputNames: readonly string[],
    whenGone?: WhenGone,
  ): Promise<readonly NamedTensor[] | Refusal> {
    const home = this.#home;
    home.running += 1;
    try {
      return await home.session.run(inputs, outputNames, whenGone);
    } finally {
      home.running -= 1;
      if (home.running === 0) home.idle?.();
    }
  }

  /** To be told of each run, wherever it was. */
  ran(cpuMs: number): void {
    if (this.#place === "thread" || this.#released) return;
    this.#slowRuns = cpuMs < quickRunMs ? 0 : this.#slowRuns + 1;
    if (cpuMs >= slowRunMs || this.#slowRuns >= slowRunsInARow) {
      this.#leave("thread", cpuMs);
      return;
    }
    if (this.#place !== "trial" || cpuMs >= quickRunMs) return;
    this.#quickRuns += 1;
    if (this.#quickRuns >= quickRunsOfTrial) this.#leave("main", cpuMs);
  }

  /** Must not be called during a run; what is left of a move is waited for. */
  async release(): Promise<void> {
    this.#released = true;
    await this.#move;
    await this.#home.session.release();
  }

  #leave(place: "main" | "thread", cpuMs: number): void {
    const before = this.#place;
    this.#place = place;
    if (before === "trial" && place === "thread") {
      this.#moves.moved(place, cpuMs);
      return;
    }
    this.#move = (this.#move ?? Promise.resolve()).then(() => this.#moveTo(place, cpuMs));
  }

  async #moveTo(place: "main" | "thread", cpuMs: number): Promise<void> {
    if (this.#released) return;
    const session = await this.#moves.open(place);
    if ("kind" in session) {
      // Asking again would end alike, so this is its place for good.
      this.#place = "thread";
      this.#moves.stayed(session.message, cpuMs);
      return;
    }
    const old = this.#home;
    this.#home = { session, running: 0, idle: undefined };
    this.#moves.moved(place, cpuMs);
    if (old.running > 0) await new Promise<void>((resolve) => (old.idle = resolve));
    await old.session.release();
  }
}
