// Owns the models loaded in this process, by server name, and the requests in flight on each.
//
//   load:   queued -> scanned -> created -> ready          (a failure leaves what was ready before)
//   reload: the new session is created first, then takes the name; the old one is released after its last request
//   unload: out of the table at once -> its requests finish -> released
//
// Invariants: a session is released once, and never while a request uses it; what is done to one name is done in the order
// asked; one session is created at a time in a thread, and in the main thread with a turn of the event loop between two. The queue
// of waiting operations is bounded.
import { setImmediate as turn } from "node:timers/promises";
import { type Log, silentLog } from "#platform/log.ts";
import { choosePlace, type Place, PlacedSession } from "./placed.ts";
import { quote, Refusal } from "./refusal.ts";
import { identifyFile, type ModelFacts, scanModelFile } from "./scan.ts";
import { type LoadFailure, openSession, type Session } from "./session.ts";
import { estimateSizeBytes } from "./sizes.ts";
import type { ThreadPool } from "./threads/pool.ts";
import { within } from "./within.ts";

export interface LoadRequest {
  readonly path: string;
  /** What a second load is compared by: the same revision is not loaded again. */
  readonly revision: string;
  /** The version that clients may name in the path; "1" when absent. */
  readonly version?: string;
}

export interface Loaded {
  readonly sizeBytes: number;
  /** Time for reading and creating, 0 when it was loaded already. */
  readonly loadMs: number;
}

/** A model that serves. Its session stays valid until `done` is called. */
export interface Lease extends Disposable {
  readonly session: Session;
  readonly publicName: string;
  readonly version: string;
}

export interface IndexEntry {
  readonly name: string;
  readonly revision: string;
  readonly state: "READY";
  readonly sizeBytes: number;
}

interface Entry {
  readonly name: string;
  readonly publicName: string;
  readonly revision: string;
  readonly version: string;
  readonly session: Session;
  readonly sizeBytes: number;
  inFlight: number;
  /** Called when the last request in flight is done, once the entry is leaving. */
  idle: (() => void) | undefined;
}

const maxWaiting = 4_096;
const maxSlowRevisions = 4_096;

export interface RepositoryOptions {
  /** For models that take long to create or to run; without it all live in the main thread. */
  readonly pool?: ThreadPool;
  readonly log?: Log;
}

export class Repository implements AsyncDisposable {
  readonly #pool: ThreadPool | undefined;
  readonly #log: Log;
  readonly #entries = new Map<string, Entry>();
  /** The end of the chain of operations on each name that has any. */
  readonly #chains = new Map<string, Promise<unknown>>();
  readonly #releases = new Set<Promise<void>>();
  #creating: Promise<unknown> = Promise.resolve();
  /** Revisions that were found to be slow, the latest last: the next load puts them in a thread at once. */
  readonly #slow = new Set<string>();
  #waiting = 0;
  #usedBytes = 0;

  constructor({ pool, log = silentLog }: RepositoryOptions = {}) {
    this.#pool = pool;
    this.#log = log;
  }

  get count(): number {
    return this.#entries.size;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  index(): readonly IndexEntry[] {
    return Array.from(this.#entries.values(), ({ name, revision, sizeBytes }) => ({ name, revision, state: "READY", sizeBytes }));
  }

  /** The model of this server name, and of this version when one is asked for. Dispose the lease when the run is over. */
  lease(name: string, version: string | undefined): Lease | Refusal {
    const entry = this.#entries.get(name);
    if (entry === undefined) return new Refusal("not-here", `Model ${told(name)} is not loaded on this pod`);
    if (version !== undefined && version !== "" && version !== entry.version) {
      return new Refusal("no-version", `Model ${told(name)} has no version ${told(version)}`);
    }
    entry.inFlight += 1;
    return {
      session: entry.session,
      publicName: entry.publicName,
      version: entry.version,
      [Symbol.dispose]: once(() => leave(entry)),
    };
  }

  async load(name: string, request: LoadRequest): Promise<Loaded | LoadFailure> {
    if (this.#waiting >= maxWaiting) return { kind: "pod", message: `${maxWaiting} loads are waiting already` };
    this.#waiting += 1;
    try {
      return await this.#inOrder(name, () => this.#load(name, request));
    } finally {
      this.#waiting -= 1;
    }
  }

  /** Resolves to the number of requests still in flight when `drainMs` were over; the session outlives them. */
  async unload(name: string, drainMs: number): Promise<number> {
    return await this.#inOrder(name, async () => {
      const entry = this.#entries.get(name);
      if (entry === undefined) return 0;
      this.#entries.delete(name);
      this.#usedBytes -= entry.sizeBytes;
      const released = this.#releaseWhenIdle(entry);
      await within(released, drainMs);
      return entry.inFlight;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#chains.values());
    for (const entry of this.#entries.values()) void this.#releaseWhenIdle(entry);
    this.#entries.clear();
    await Promise.allSettled(this.#releases);
  }

  async #load(name: string, { path, revision, version = "1" }: LoadRequest): Promise<Loaded | LoadFailure> {
    const before = this.#entries.get(name);
    if (before?.revision === revision) return { sizeBytes: before.sizeBytes, loadMs: 0 };
    const startMs = performance.now();
    let facts: ModelFacts;
    try {
      facts = await scanModelFile(path);
    } catch (error) {
      return classifyFileError(error);
    }
    const key = `${name}\0${revision}`;
    const place = this.#pool === undefined ? "main" : choosePlace(facts, this.#slow.has(key));
    const session = await this.#open(name, key, path, place);
    if ("kind" in session) return session;
    const publicName = name.replace(/~\d+$/, "");
    const sizeBytes = estimateSizeBytes(facts);
    this.#entries.set(name, { name, publicName, revision, version, session, sizeBytes, inFlight: 0, idle: undefined });
    this.#usedBytes += sizeBytes - (before?.sizeBytes ?? 0);
    if (before !== undefined) await within(this.#releaseWhenIdle(before), 5_000);
    return { sizeBytes, loadMs: performance.now() - startMs };
  }

  async #open(name: string, key: string, path: string, place: Place): Promise<Session | LoadFailure> {
    if (this.#pool === undefined || place === "thread") return await this.#create(path, place, undefined);
    const file = await identifyFile(path);
    const ran = (cpuMs: number): void => placed.ran(cpuMs);
    const session = await this.#create(path, place, ran);
    if ("kind" in session) return session;
    const placed = new PlacedSession(session, place, {
      open: async (to): Promise<Session | LoadFailure> => {
        const moved = await this.#create(path, to, ran);
        if ("kind" in moved || (file !== undefined && (await identifyFile(path)) === file)) return moved;
        await moved.release();
        return { kind: "storage", message: "the file is not the one that was loaded" };
      },
      moved: (to, cpuMs) => {
        if (to === "thread") this.#rememberSlow(key);
        this.#log.info("model moved", { model: name, to, runMs: cpuMs });
      },
      stayed: (reason, cpuMs) => {
        this.#rememberSlow(key);
        this.#log.info("model could not be moved", { model: name, reason, runMs: cpuMs });
      },
    });
    return placed;
  }

  #rememberSlow(key: string): void {
    this.#slow.delete(key);
    this.#slow.add(key);
    const [oldest] = this.#slow;
    if (oldest !== undefined && this.#slow.size > maxSlowRevisions) this.#slow.delete(oldest);
  }

  async #create(path: string, place: Place, ran: ((cpuMs: number) => void) | undefined): Promise<Session | LoadFailure> {
    if (this.#pool !== undefined && place !== "main") return await this.#pool.open(path, ran);
    const created = this.#creating.then(() => openSession(path, ran));
    this.#creating = created.then(
      () => turn(),
      () => turn(),
    );
    return await created;
  }

  async #inOrder<T>(name: string, operation: () => Promise<T>): Promise<T> {
    const result = (this.#chains.get(name) ?? Promise.resolve()).then(operation);
    const end = result.then(
      () => undefined,
      () => undefined,
    );
    this.#chains.set(name, end);
    try {
      return await result;
    } finally {
      if (this.#chains.get(name) === end) this.#chains.delete(name);
    }
  }

  #releaseWhenIdle(entry: Entry): Promise<void> {
    const idle = entry.inFlight === 0 ? Promise.resolve() : new Promise<void>((resolve) => (entry.idle = resolve));
    const released = idle.then(() => entry.session.release());
    this.#releases.add(released);
    return released.finally(() => this.#releases.delete(released));
  }
}

function leave(entry: Entry): void {
  entry.inFlight -= 1;
  if (entry.inFlight === 0) entry.idle?.();
}

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}

/** A name inside a message: bare when it is plain, as clients of other servers expect. */
function told(name: string): string {
  return /^[\w.~-]{1,128}$/.test(name) ? name : quote(name);
}

const failureKinds: ReadonlyMap<string, LoadFailure["kind"]> = new Map([
  ["EMFILE", "pod"],
  ["ENFILE", "pod"],
  ["ENOMEM", "pod"],
  // A folder is no model, whoever looks.
  ["EISDIR", "model"],
]);

function classifyFileError(error: unknown): LoadFailure {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const message = error instanceof Error ? error.message : String(error);
  return { kind: failureKinds.get(code) ?? "storage", message };
}
