// Owns a model server and its driver in memory, for scripted faults. It passes the contract suite as the real ones do.
import { type Clock, sleep } from "#platform/clock.ts";
import type { Driver, DriverListener, Failure, HeldModel, Listed, Loaded, LoadRequest } from "../drivers/driver.ts";
import { createWatch, type Pulse } from "../drivers/watch.ts";

export interface FakeServer {
  readonly held: Map<string, HeldModel>;
  /** Loads under way. */
  readonly loading: ReadonlySet<string>;
  /** Each load and unload that began, in order. */
  readonly calls: readonly string[];
  /** What loads report; 100 when absent here. */
  readonly sizes: Map<string, number>;
  /** How the next loads of a name fail. */
  readonly failures: Map<string, Failure["failure"]>;
  /** The server dies when it is asked to load one of these. */
  readonly poisons: Set<string>;
  /** Loads wait until their name is taken out. */
  readonly heldBack: Set<string>;
  kill(): void;
  revive(): void;
  hang(): void;
  resume(): void;
  openDriver(clock: Clock): Driver;
}

export const brokenPath = "/fake/broken";
export const absentPath = "/fake/absent";

class DeadError extends Error {
  override readonly name = "DeadError";
}

export function createFakeServer(): FakeServer {
  const held = new Map<string, HeldModel>();
  const loading = new Set<string>();
  const calls: string[] = [];
  const sizes = new Map<string, number>();
  const failures = new Map<string, Failure["failure"]>();
  const poisons = new Set<string>();
  const heldBack = new Set<string>();
  const watches = new Set<{ hurry(): void }>();
  let life = 1;
  let alive = true;
  let hanging = false;

  const kill = (): void => {
    alive = false;
    held.clear();
    loading.clear();
    for (const watch of watches) watch.hurry();
  };

  /** One exchange with the server: waits while it hangs, fails when it dies meanwhile. */
  const exchange = async <T>(signal: AbortSignal, answer: () => T | undefined): Promise<T> => {
    const bornIn = life;
    for (;;) {
      signal.throwIfAborted();
      if (!alive || life !== bornIn) throw new DeadError("the connection was closed");
      const given = hanging ? undefined : answer();
      if (given !== undefined) return given;
      await sleep(2, signal);
    }
  };
  const call = async <T>(signal: AbortSignal, answer: () => T | undefined): Promise<T | Failure> => {
    try {
      return await exchange(signal, answer);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof DeadError)) throw error;
      return { kind: "failed", failure: "pod", reason: error.message };
    }
  };

  const answerLoad = ({ serverName, revision, path }: LoadRequest): Loaded | Failure | undefined => {
    if (poisons.has(serverName)) {
      kill();
      return undefined;
    }
    if (heldBack.has(serverName)) return undefined;
    const failure = path === brokenPath ? "model" : path === absentPath ? "storage" : failures.get(serverName);
    if (failure !== undefined) return { kind: "failed", failure, reason: `scripted: ${failure}` };
    const sizeBytes = sizes.get(serverName) ?? 100;
    held.set(serverName, { serverName, revision, sizeBytes });
    return { kind: "ok", sizeBytes, measured: true };
  };

  const openDriver = (clock: Clock): Driver => {
    const list = (signal: AbortSignal): Promise<Listed> => call<Listed>(signal, () => ({ kind: "ok", held: [...held.values()] }));
    const pulse = async (signal: AbortSignal): Promise<Pulse> => {
      const late = AbortSignal.any([signal, AbortSignal.timeout(100)]);
      try {
        return { kind: "alive", life: await exchange(late, () => String(life)) };
      } catch (error) {
        signal.throwIfAborted();
        return error instanceof DeadError ? { kind: "dead", reason: error.message } : { kind: "silent", reason: "no answer" };
      }
    };
    const watch = createWatch({ clock, pulse, list, pollMs: 20, silenceMs: 1_000 });
    watches.add(watch);
    return {
      keepsArtefact: false,
      start: (listener: DriverListener, signal: AbortSignal) => watch.run(listener, signal),
      alive: () => watch.up,
      doubt: (silenceMs) => watch.doubt(silenceMs),
      list,
      async load(request): ReturnType<Driver["load"]> {
        calls.push(`load ${request.serverName}`);
        loading.add(request.serverName);
        try {
          return await call(request.signal, () => answerLoad(request));
        } finally {
          loading.delete(request.serverName);
        }
      },
      async unload(serverName, signal): ReturnType<Driver["unload"]> {
        calls.push(`unload ${serverName}`);
        return await call<{ readonly kind: "ok" } | Failure>(signal, () => {
          held.delete(serverName);
          return { kind: "ok" };
        });
      },
      async ready(serverName, revision, signal): Promise<boolean | undefined> {
        const listed = await list(signal);
        if (listed.kind === "failed") return undefined;
        return listed.held.some((model) => model.serverName === serverName && model.revision === revision);
      },
      async [Symbol.asyncDispose](): Promise<void> {
        watches.delete(watch);
      },
    };
  };

  return {
    held,
    loading,
    calls,
    sizes,
    failures,
    poisons,
    heldBack,
    kill,
    revive(): void {
      life += 1;
      alive = true;
      hanging = false;
    },
    hang: () => void (hanging = true),
    resume: () => void (hanging = false),
    openDriver,
  };
}
