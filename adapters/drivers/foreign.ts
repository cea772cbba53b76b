// Owns what the drivers of all foreign model servers have in common; what differs between them is a ForeignServer.
//
//   load --> its name is free --> remembered --> asked of the server --> remembered as loaded, or forgotten
//
// Invariants:
// - One thing at a time happens under a name (turns.ts). A load that succeeds after its caller gave it up is taken back, so a
//   model server is never left with a copy that nobody knows of.
// - Loading what is loaded does nothing, also where the model server would load it anew.
// - What was held before this adapter's start is adopted only when the model server says that it has it.
// - What the model server holds is compared with what is remembered at bounded cost: a server that can list is asked once,
//   another one is asked for a few copies at a time.
import type { Clock } from "#platform/clock.ts";
import { openDeadline } from "#platform/deadline.ts";
import type {
  Driver,
  DriverListener,
  Failure,
  HeldModel,
  Listed,
  Loaded,
  LoadRequest,
  PredictRequest,
  ServerLimits,
} from "./driver.ts";
import type { Done, ForeignServer } from "./foreignserver.ts";
import { createLifeline, type Lifeline, type Seen } from "./lifeline.ts";
import { createLoadMeter } from "./memory/loadmeter.ts";
import type { MemoryMeter } from "./memory/processes.ts";
import type { CopyRecord } from "./record.ts";
import { createTurns } from "./turns.ts";
import { createWatch, type Pulse, type Watch } from "./watch.ts";

export interface ForeignOptions {
  readonly clock: Clock;
  /** 250 ms when absent. */
  readonly pollMs?: number;
  /** A model server that answers nothing for so long counts as lost; 20 s when absent. */
  readonly silenceMs?: number;
  /** How long one load may take, whoever waits for it; 300 s when absent. */
  readonly loadTimeoutMs?: number;
  /** Measures models that the server tells nothing of; nothing is learned of these when absent. */
  readonly memory?: MemoryMeter;
}

const liveTimeoutMs = 5_000;
const unloadTimeoutMs = 60_000;
const sampled = 32;
const atATime = 16;
const doubted = 8;

export function createForeignDriver(server: ForeignServer, record: CopyRecord, options: ForeignOptions): Driver {
  return new ForeignDriver(server, record, options);
}

class ForeignDriver implements Driver {
  readonly keepsArtefact: boolean;
  readonly memoryBytes?: (signal: AbortSignal) => Promise<number | undefined>;
  readonly limits?: () => ServerLimits;
  readonly predictBytes?: (request: PredictRequest, signal: AbortSignal) => Promise<number | undefined>;
  readonly #meter;
  readonly #server: ForeignServer;
  readonly #record: CopyRecord;
  readonly #options: ForeignOptions;
  readonly #lifeline: Lifeline;
  readonly #watch: Watch;
  readonly #turns = createTurns();
  #seen: Extract<Seen, { readonly kind: "up" }> | undefined;
  #restarts = 0;
  #greeted: string | undefined;
  /** All that is remembered was compared in this life. */
  #compared = false;
  #loading = 0;
  #turn = 0;

  constructor(server: ForeignServer, record: CopyRecord, options: ForeignOptions) {
    const { clock, pollMs = 250, silenceMs = 20_000 } = options;
    this.keepsArtefact = server.keepsArtefact;
    this.#server = server;
    this.#record = record;
    this.#options = options;
    const meter = options.memory === undefined ? undefined : createLoadMeter(options.memory);
    this.#meter = meter;
    const { limits, predictBytes } = server;
    if (limits !== undefined) this.limits = limits;
    if (predictBytes !== undefined) this.predictBytes = predictBytes;
    if (meter !== undefined) this.memoryBytes = (signal) => meter.total(signal);
    this.#lifeline = createLifeline({ address: server.address, http2: server.http2, onClosed: () => this.#watch.hurry() });
    this.#watch = createWatch({
      clock,
      pollMs,
      silenceMs,
      pulse: (signal) => this.#pulse(signal),
      list: (signal) => this.list(signal),
    });
  }

  async start(listener: DriverListener, signal: AbortSignal): Promise<void> {
    await this.#record.open();
    await this.#server.prepare?.();
    await this.#watch.run(
      {
        onUp: (held) => listener.onUp(held),
        onLost: (reason, how) => {
          this.#compared = false;
          this.#meter?.reset();
          this.#turns.lose(new Error(`the model server is lost: ${reason}`));
          listener.onLost(reason, how);
        },
      },
      signal,
    );
  }

  alive(): boolean {
    return this.#watch.up;
  }

  doubt(silenceMs: number): void {
    this.#watch.doubt(silenceMs);
  }

  async load(request: LoadRequest): Promise<Loaded | Failure> {
    const { serverName, signal } = request;
    const cancels = this.#server.cancelsLoads === true;
    const work = (ended: AbortSignal): Promise<Loaded | Failure> =>
      this.#load({ ...request, signal: cancels ? AbortSignal.any([ended, signal]) : ended });
    await this.#opened(signal);
    return await this.#turns.take(serverName, signal, {
      work,
      timeoutMs: Math.max(this.#options.loadTimeoutMs ?? 300_000, this.#server.limits?.().loadTimeoutMs ?? 0),
      givenUp: async (loaded) => {
        if (!cancels && loaded?.kind !== "ok") return;
        using ends = this.#turns.ends(unloadTimeoutMs);
        await this.#unload(serverName, ends.signal);
      },
    });
  }

  async unload(serverName: string, signal: AbortSignal): Promise<Done> {
    await this.#opened(signal);
    const work = (ended: AbortSignal): Promise<Done> => this.#unload(serverName, ended);
    return await this.#turns.take(serverName, signal, { work, timeoutMs: unloadTimeoutMs });
  }

  async list(signal: AbortSignal): Promise<Listed> {
    const compared = await this.#compare(signal);
    if (compared.kind === "failed") return compared;
    const held = this.#record.all().filter(({ loaded }) => loaded);
    return {
      kind: "ok",
      held: held.map(({ serverName, revision, sizeBytes }): HeldModel => ({ serverName, revision, sizeBytes })),
    };
  }

  async ready(serverName: string, revision: string, signal: AbortSignal): Promise<boolean | undefined> {
    signal.throwIfAborted();
    const copy = this.#record.get(serverName);
    if (copy?.revision !== revision || !copy.loaded) return false;
    const ready = await this.#isReady(serverName, signal);
    if (ready === false && this.#record.get(serverName) === copy && !this.#turns.isTaken(serverName))
      await this.#forget(serverName);
    return ready;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const over = this.#turns.end();
    this.#lifeline[Symbol.dispose]();
    await this.#server[Symbol.asyncDispose]();
    await over;
  }

  async #opened(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await this.#record.open();
  }

  async #load(request: LoadRequest): Promise<Loaded | Failure> {
    const { serverName, revision, expectedBytes, signal } = request;
    const before = this.#record.get(serverName);
    if (before?.loaded === true && before.revision === revision && (await this.#isReady(serverName, signal)) === true) {
      return { kind: "ok", sizeBytes: before.sizeBytes, measured: false };
    }
    // Another revision, or one of which it is not known how far its load came.
    if (before !== undefined) {
      const unloaded = await this.#unload(serverName, signal);
      if (unloaded.kind === "failed") return unloaded;
    }
    await this.#record.put({ serverName, revision, sizeBytes: expectedBytes, loaded: false });
    const measure = await this.#meter?.begin(request);
    this.#loading += 1;
    const loaded = await this.#server
      .load(request)
      .catch((error: unknown) => {
        measure?.fail();
        throw error;
      })
      .finally(() => {
        this.#loading -= 1;
      });
    if (loaded.kind === "failed") {
      measure?.fail();
      // After a failure of the pod nothing is known; whoever asked unloads.
      if (loaded.failure === "pod") this.#watch.hurry();
      else {
        this.#watch.heard();
        await this.#forget(serverName);
      }
      return loaded;
    }
    this.#watch.heard();
    const grownBytes = await measure?.end();
    const known = [loaded.sizeBytes ?? grownBytes, loaded.leastBytes].filter((bytes) => bytes !== undefined);
    const toldBytes = known.length > 0 ? Math.max(...known) : undefined;
    const sizeBytes = toldBytes ?? expectedBytes;
    await this.#record.put({ serverName, revision, sizeBytes, loaded: true });
    return { kind: "ok", sizeBytes, measured: toldBytes !== undefined };
  }

  async #unload(serverName: string, signal: AbortSignal): Promise<Done> {
    const unloaded = await this.#server.unload(serverName, signal);
    const before = this.#record.get(serverName);
    if (unloaded.kind === "ok") {
      if (before?.loaded === true) this.#meter?.unloaded(before.sizeBytes);
      await this.#forget(serverName);
    } else if (unloaded.failure === "pod") this.#watch.hurry();
    return unloaded;
  }

  async #forget(serverName: string): Promise<void> {
    await this.#record.delete(serverName);
    await this.#server.forget?.(serverName);
  }

  async #isReady(serverName: string, signal: AbortSignal): Promise<boolean | undefined> {
    if (this.#server.ready === undefined) return this.#watch.up && (await this.#server.denies?.(serverName, signal)) !== true;
    using either = openDeadline(liveTimeoutMs, signal, this.#turns.ended);
    return await this.#server.ready(serverName, either.signal);
  }

  /** Forgets what the model server does not hold any more. */
  async #compare(signal: AbortSignal): Promise<Done> {
    await this.#record.open();
    const { index } = this.#server;
    const resting = this.#record.all().filter(({ serverName }) => !this.#turns.isTaken(serverName));
    if (index !== undefined) {
      const listed = await index(signal);
      if (listed.kind === "failed") return listed;
      await this.#keepOnly(resting, (serverName) => listed.names.has(serverName));
    } else {
      const some = this.#compared ? this.#someOf(resting) : resting;
      const answers = await this.#askEach(some, signal);
      if (answers === undefined) return { kind: "failed", failure: "pod", reason: "the model server does not say what it holds" };
      await this.#keepOnly(some, (serverName) => answers.get(serverName) !== false);
    }
    this.#compared = true;
    return { kind: "ok" };
  }

  async #keepOnly(
    copies: readonly {
      readonly serverName: string;
      readonly loaded: boolean;
      readonly revision: string;
      readonly sizeBytes: number;
    }[],
    isHeld: (serverName: string) => boolean,
  ): Promise<void> {
    for (const copy of copies) {
      const { serverName } = copy;
      if (this.#turns.isTaken(serverName) || this.#record.get(serverName) !== copy) continue;
      if (!isHeld(serverName)) await this.#forget(serverName);
      // Its load ended after whoever asked for it.
      else if (!copy.loaded) await this.#record.put({ ...copy, loaded: true });
    }
  }

  /** Others each time, so that all have their turn. */
  #someOf<T>(copies: readonly T[]): readonly T[] {
    if (copies.length <= sampled) return copies;
    const from = this.#turn % copies.length;
    this.#turn = from + sampled;
    return [...copies, ...copies].slice(from, from + sampled);
  }

  /** Undefined when one of them is not answered; where there is none to ask about, when the server is not alive. */
  async #askEach(
    copies: readonly { readonly serverName: string }[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, boolean> | undefined> {
    const answers = new Map<string, boolean>();
    if (copies.length === 0 && (await this.#server.live?.(signal).catch(() => false)) === false) return undefined;
    for (let from = 0; from < copies.length; from += atATime) {
      const some = copies.slice(from, from + atATime);
      const ready = await Promise.all(some.map(({ serverName }) => this.#isReady(serverName, signal)));
      for (const [at, { serverName }] of some.entries()) {
        const answer = ready[at];
        if (answer === undefined) return undefined;
        answers.set(serverName, answer);
      }
    }
    return answers;
  }

  async #pulse(signal: AbortSignal): Promise<Pulse> {
    const seen = await this.#lifeline.look(signal);
    if (seen.kind !== "up") return seen;
    const loading = this.#loading > 0;
    using deadline = openDeadline(liveTimeoutMs, signal);
    const live = (await this.#server.live?.(deadline.signal).catch(() => false)) ?? true;
    signal.throwIfAborted();
    // Some answer nothing while they load.
    if (!live) return { kind: "silent", reason: "the model server does not answer", busy: loading || this.#loading > 0 };
    const before = this.#seen;
    if (before?.life === seen.life && before.doubts !== seen.doubts && !(await this.#livesOn(before, seen, signal))) {
      this.#restarts += 1;
    }
    this.#seen = seen;
    const life = this.#lifeOf(seen.life);
    if (this.#greeted !== life && this.#server.greet !== undefined) {
      const remembered = this.#record.all().map(({ serverName }) => serverName);
      const greeted = await this.#server.greet(remembered, signal);
      if (greeted.kind === "failed") return { kind: "silent", reason: greeted.reason };
    }
    this.#greeted = life;
    return { kind: "alive", life };
  }

  #lifeOf(seen: string): string {
    return `${seen}/${this.#restarts}`;
  }

  /** Whether some of what it held is there: a process started anew holds nothing. One that cannot tell is not trusted. */
  async #livesOn(before: { readonly breaks: number }, seen: { readonly breaks: number }, signal: AbortSignal): Promise<boolean> {
    if (this.#server.ready === undefined) return before.breaks === seen.breaks;
    const held = this.#record.all().filter(({ serverName, loaded }) => loaded && !this.#turns.isTaken(serverName));
    const some = held.slice(0, doubted);
    if (some.length === 0) return true;
    const answers = await this.#askEach(some, signal);
    return answers === undefined || [...answers.values()].includes(true);
  }
}
