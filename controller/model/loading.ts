// Owns the first loads of models: each revision that becomes active without ever having been loaded is loaded once, so that
// its object can say whether it works. After that requests load it, and the gateways keep the copies that are wanted.
// Invariants: one load for a model at a time, a bounded number in all; a failed one is tried again after pauses that grow. A
// gateway that has not heard of the model yet, since it was registered just now, is no failure of the model's.
import type { Clock } from "#platform/clock.ts";
import type { GatewayClient } from "../gateway.ts";
import type { LoadSeen } from "./view.ts";

export interface FirstLoads {
  /** Loads the active revision of this model unless that was done, is under way, or is to wait. */
  want(name: string, revision: string): void;
  /** The last failure of this revision. */
  failure(name: string, revision: string): LoadSeen | undefined;
  isLoaded(name: string, revision: string): boolean;
  setLoaded(name: string, revision: string): void;
  /** When it may be tried again, from now; undefined when nothing is to be tried. */
  retryInMs(name: string, revision: string): number | undefined;
  forget(name: string): void;
  stop(): Promise<void>;
  readonly underWay: number;
}

export interface FirstLoadsParts {
  readonly gateway: Pick<GatewayClient, "load">;
  readonly clock: Clock;
  /** A load has ended: look at the model again. */
  readonly onEnd: (name: string) => void;
  readonly maxAtOnce?: number;
}

interface Entry {
  readonly revision: string;
  state: "waiting" | "loading" | "loaded" | "failed";
  failure: LoadSeen | undefined;
  retryAtMs: number;
  failures: number;
}

const firstPauseMs = 5_000;
const longestPauseMs = 300_000;
/** A runtime's pods are on their way. */
const podPauseMs = 2_000;
/** The registry is about to tell the gateway. */
const unheardPauseMs = 500;

export function createFirstLoads(parts: FirstLoadsParts): FirstLoads {
  const { gateway, clock, onEnd, maxAtOnce = 32 } = parts;
  const entries = new Map<string, Entry>();
  const waiting = new Set<string>();
  const running = new Map<string, Promise<void>>();
  const stop = new AbortController();

  function serve(): void {
    while (running.size < maxAtOnce && !stop.signal.aborted) {
      const [name] = waiting;
      if (name === undefined) return;
      waiting.delete(name);
      const entry = entries.get(name);
      if (entry === undefined) continue;
      entry.state = "loading";
      running.set(
        name,
        load(name, entry).finally(() => {
          running.delete(name);
          serve();
          onEnd(name);
        }),
      );
    }
  }

  async function load(name: string, entry: Entry): Promise<void> {
    const result = await gateway.load(name, stop.signal);
    if (result.kind === "live") {
      entry.state = "loaded";
      entry.failure = undefined;
      return;
    }
    if (result.code === "model-not-found") {
      entry.state = "failed";
      entry.retryAtMs = clock.monotonicMs() + unheardPauseMs;
      return;
    }
    const forPods = result.code === "no-pods" || result.code === "no-runtime" || result.code === "unavailable";
    entry.failures += 1;
    const pauseMs = forPods ? podPauseMs : Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(entry.failures - 1, 10));
    entry.state = "failed";
    entry.retryAtMs = clock.monotonicMs() + Math.max(pauseMs, result.retryAfterMs ?? 0);
    const { code, reason } = result;
    const isSame = entry.failure?.code === code && entry.failure.reason === reason;
    entry.failure = { revision: entry.revision, code, reason, atMs: isSame ? (entry.failure?.atMs ?? 0) : clock.now() };
  }

  const find = (name: string, revision: string): Entry | undefined => {
    const entry = entries.get(name);
    return entry?.revision === revision ? entry : undefined;
  };

  return {
    want(name, revision) {
      const known = find(name, revision);
      if (known?.state === "failed" && clock.monotonicMs() < known.retryAtMs) return;
      if (known !== undefined && known.state !== "failed") return;
      // The load of an earlier revision ends by itself; then this one has its turn.
      if (running.has(name)) return;
      const entry = known ?? { revision, state: "waiting", failure: undefined, retryAtMs: 0, failures: 0 };
      entry.state = "waiting";
      entries.set(name, entry);
      waiting.add(name);
      serve();
    },
    failure: (name, revision) => find(name, revision)?.failure,
    isLoaded: (name, revision) => find(name, revision)?.state === "loaded",
    setLoaded(name, revision) {
      if (running.has(name)) return;
      waiting.delete(name);
      entries.set(name, { revision, state: "loaded", failure: undefined, retryAtMs: 0, failures: 0 });
    },
    retryInMs(name, revision) {
      const entry = find(name, revision);
      return entry?.state === "failed" ? Math.max(0, entry.retryAtMs - clock.monotonicMs()) : undefined;
    },
    forget(name) {
      entries.delete(name);
      waiting.delete(name);
    },
    async stop() {
      stop.abort(new Error("the controller is stopping"));
      await Promise.all(running.values());
    },
    get underWay() {
      return running.size + waiting.size;
    },
  };
}
