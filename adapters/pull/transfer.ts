// Owns the way of one stored file to the disk: attempts, back-off, resuming, the checks of length and digest.
// Invariants: what is returned for has exactly the listed length and digest; attempts are bounded; a silent store is left
// after a deadline; an abort ends the transfer at once.
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { orAborted, sleep } from "#platform/clock.ts";
import { type Check, createCheck } from "./checks.ts";
import type { Moved } from "./puller.ts";
import type { Digest, Store, StoredFile } from "./store.ts";
import { connectionError, PullError } from "./trouble.ts";

export interface Target {
  /** Absolute; its folder is there. */
  readonly path: string;
  /** Asks for bytes that the listing did not tell. */
  readonly grow: (bytes: number) => void;
}

export interface Transferred {
  readonly sizeBytes: number;
  readonly sha256: string;
}

export interface TransferOptions {
  /** How long a store may send nothing; 30 s when absent. */
  readonly silenceMs?: number;
  /** First pause after a failure, doubled each time; 100 ms when absent. */
  readonly firstPauseMs?: number;
  /** Told of bytes as they come. */
  readonly moved?: Moved | undefined;
}

/** Without a byte of progress between them. */
const maxFailures = 5;
const maxAttempts = 40;
const longestPauseMs = 5_000;
const writeBytes = 2 ** 20;
const growBytes = 2 ** 20;

interface State {
  readonly handle: FileHandle;
  offset: number;
  grownTo: number;
  sha256: Hash;
  /** What the store says. */
  digest: Digest | undefined;
  /** Made when that is of another kind. */
  check: Check | undefined;
  /** The store was asked for it because an attempt goes on behind others. */
  asked: boolean;
}

export async function transferFile(
  store: Store,
  file: StoredFile,
  target: Target,
  options: TransferOptions,
  signal: AbortSignal,
): Promise<Transferred> {
  await using handle = await open(target.path, "a+", 0o600);
  const state: State = {
    handle,
    offset: 0,
    grownTo: file.sizeBytes ?? 0,
    sha256: createHash("sha256"),
    digest: file.digest,
    check: createCheck(file.digest, file),
    asked: false,
  };
  await takeUp(state, file, target, options, signal);
  const resumable = file.version !== "" && file.sizeBytes !== undefined;
  let failures = 0;
  for (let attempt = 1; ; attempt++) {
    const before = state.offset;
    try {
      if (state.offset > 0) await askDigest(store, file, target, state, signal);
      if (state.offset !== file.sizeBytes) await readRest(store, file, target, state, options, signal);
      const sha256 = state.sha256.digest("hex");
      const wrong = refute(sha256, state, file);
      if (wrong === undefined) return { sizeBytes: state.offset, sha256 };
      await restart(state, file);
      throw wrong;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof PullError)) throw error;
      failures = resumable && state.offset > before ? 0 : failures + 1;
      if (!error.again || failures >= maxFailures || attempt >= maxAttempts) throw error;
      if (!resumable) await restart(state, file);
      const pauseMs = Math.min(longestPauseMs, (options.firstPauseMs ?? 100) * 2 ** failures);
      await sleep(Math.max(pauseMs * (0.5 + Math.random() / 2), Math.min(error.waitMs, 2 * longestPauseMs)), signal);
    }
  }
}

/** What an earlier transfer of the same version has brought is hashed and kept. */
async function takeUp(
  state: State,
  file: StoredFile,
  target: Target,
  options: TransferOptions,
  signal: AbortSignal,
): Promise<void> {
  const there = (await state.handle.stat()).size;
  if (there === 0) return;
  if (file.version === "" || file.sizeBytes === undefined || there > file.sizeBytes) return await restart(state, file);
  for await (const chunk of createReadStream(target.path, { highWaterMark: 2 ** 18, signal })) {
    state.sha256.update(chunk as Buffer);
    state.check?.update(chunk as Buffer);
    options.moved?.(chunk.length);
  }
  state.offset = there;
}

/** What checks a reading from its beginning, such as a store's own client, checks nothing of one that goes on. */
async function askDigest(store: Store, file: StoredFile, target: Target, state: State, signal: AbortSignal): Promise<void> {
  if (state.asked || state.digest !== undefined || store.digest === undefined) return;
  const digest = await store.digest(file, signal);
  state.asked = true;
  if (digest === undefined) return;
  const check = createCheck(digest, file);
  if (check !== undefined) {
    const end = state.offset - 1;
    for await (const chunk of createReadStream(target.path, { end, highWaterMark: 2 ** 18, signal }))
      check.update(chunk as Buffer);
  }
  state.check = check;
  state.digest = digest;
}

async function restart(state: State, file: StoredFile): Promise<void> {
  await state.handle.truncate(0);
  state.offset = 0;
  state.sha256 = createHash("sha256");
  state.digest = file.digest;
  state.check = createCheck(file.digest, file);
  state.asked = false;
}

async function readRest(
  store: Store,
  file: StoredFile,
  target: Target,
  state: State,
  options: TransferOptions,
  signal: AbortSignal,
): Promise<void> {
  const silenceMs = options.silenceMs ?? 30_000;
  const silent = new AbortController();
  const timer = setTimeout(() => silent.abort(new PullError("unreachable", `the store is silent about ${file.what}`)), silenceMs);
  const ended = AbortSignal.any([signal, silent.signal]);
  let chunks: AsyncIterator<Uint8Array> | undefined;
  const writer = createWriter(state);
  try {
    // A client that does not heed the signal is not waited for.
    const reading = await orAborted(store.read(file, state.offset, ended), ended);
    if (reading.digest !== undefined && file.digest === undefined && state.offset === 0) {
      state.digest = reading.digest;
      state.check = createCheck(reading.digest, file);
    }
    chunks = reading.chunks[Symbol.asyncIterator]();
    for (let next = await orAborted(chunks.next(), ended); next.done !== true; ) {
      timer.refresh();
      const chunk = next.value;
      options.moved?.(chunk.length);
      if (file.sizeBytes !== undefined && state.offset + chunk.length > file.sizeBytes) {
        throw new PullError("corrupt", `${file.what} is longer than the store said (${file.sizeBytes} bytes)`);
      }
      if (state.offset + chunk.length > state.grownTo) {
        const more = Math.max(growBytes, chunk.length);
        target.grow(more);
        state.grownTo += more;
      }
      await writer.write(chunk);
      next = await orAborted(chunks.next(), ended);
    }
    await writer.flush();
  } catch (error) {
    // What has come is kept, for the next attempt goes on behind it.
    await writer.flush();
    signal.throwIfAborted();
    throw silent.signal.aborted ? silent.signal.reason : isDiskFault(error) ? error : connectionError(error, file.what);
  } finally {
    clearTimeout(timer);
    chunks?.return?.().catch(() => undefined);
  }
  if (file.sizeBytes !== undefined && state.offset < file.sizeBytes) {
    throw new PullError("unreachable", `the store ended ${file.what} after ${state.offset} of ${file.sizeBytes} bytes`);
  }
}

/** Gathers chunks, and writes while the next ones come. */
function createWriter(state: State): { write(chunk: Uint8Array): Promise<void>; flush(): Promise<void> } {
  let pending: Uint8Array[] = [];
  let bytes = 0;
  let writing: Promise<unknown> = Promise.resolve();
  const start = async (): Promise<void> => {
    await writing;
    const batch = pending;
    pending = [];
    bytes = 0;
    writing = batch.length === 0 ? Promise.resolve() : writeAll(state.handle, batch);
    // It is awaited before the next one begins.
    writing.catch(() => undefined);
  };
  return {
    async write(chunk): Promise<void> {
      state.sha256.update(chunk);
      state.check?.update(chunk);
      state.offset += chunk.length;
      pending.push(chunk);
      bytes += chunk.length;
      if (bytes >= writeBytes) await start();
    },
    async flush(): Promise<void> {
      await start();
      await writing;
    },
  };
}

async function writeAll(handle: FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
  const wanted = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const { bytesWritten } = await handle.writev([...chunks]);
  if (bytesWritten === wanted) return;
  // Rare: the system took a part.
  await handle.appendFile(Buffer.concat(chunks).subarray(bytesWritten));
}

function refute(sha256: string, state: State, file: StoredFile): PullError | undefined {
  if (state.digest === undefined || (state.check?.hex() ?? sha256) === state.digest.hex) return undefined;
  return new PullError("corrupt", `${file.what} does not have the checksum that the store says (${state.digest.algorithm})`);
}

function isDiskFault(error: unknown): boolean {
  return error instanceof Error && "syscall" in error && /^(?:write|writev|ftruncate|open)$/.test(String(error.syscall));
}
