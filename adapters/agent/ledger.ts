// Owns the copies that are on their way into the model server, in it, or failed, and the bytes they stand for.
// Every change of a copy's state is made here and noted for the next publication.
// The LRU's order is that of last use, later for what is used regularly (core/heat.ts).
// Invariants: used = the sizes of ready and leaving copies, reserved = those of loading ones; the LRU holds the ready
// ones; a name on the model server belongs to at most one loading, ready or leaving copy; failed copies are bounded.
import { bonusMs, type Heat, noHeat, rateOf, warmUp } from "#core/heat.ts";
import { createLru } from "#core/lru.ts";
import type { EvictionCandidate } from "#core/placement/evict.ts";
import {
  assertArrow,
  type CopyFailure,
  type CopyName,
  type CopyState,
  type CopyView,
  copyKey,
  maxReasonLength,
} from "./copies.ts";
import type { SizeFacts } from "./sizes.ts";

export interface Copy extends CopyName {
  readonly key: string;
  readonly serverName: string;
  state: "loading" | "ready" | "leaving" | "failed";
  /** Reserved while it loads, measured afterwards. */
  sizeBytes: number;
  lastUsedMs: number;
  failure: CopyFailure | undefined;
  /** What its size was predicted from; absent when it was adopted. */
  readonly facts: SizeFacts | undefined;
  userWaits: boolean;
  /** Never to be evicted for others. */
  pinned: boolean;
  /** Whose it is, as far as gateways have told. */
  tenant?: string | undefined;
  heat: Heat;
}

export type NewCopy = Omit<Copy, "state" | "sizeBytes" | "failure" | "heat">;

export class Ledger {
  readonly #maxFailed: number;
  readonly #copies = new Map<string, Copy>();
  /** The oldest first. */
  readonly #failed = new Set<string>();
  readonly #names = new Map<string, Copy>();
  readonly #lru = createLru<string>();
  /** Ready copies whose size is a guess, by format. */
  readonly #guessed = new Map<string, Set<Copy>>();
  #changed = new Map<string, CopyName>();
  #leavingBytes = 0;
  #reservedBytes = 0;
  #loading = 0;

  constructor(options: { readonly maxFailed: number }) {
    this.#maxFailed = options.maxFailed;
  }

  get usedBytes(): number {
    return this.#lru.totalBytes + this.#leavingBytes;
  }
  get leavingBytes(): number {
    return this.#leavingBytes;
  }
  get reservedBytes(): number {
    return this.#reservedBytes;
  }
  get loading(): number {
    return this.#loading;
  }
  get ready(): number {
    return this.#lru.size;
  }
  get oldestUsedMs(): number | undefined {
    return this.#lru.oldest()?.lastUsedMs;
  }

  get(key: string): Copy | undefined {
    return this.#copies.get(key);
  }

  has(key: string): boolean {
    return this.#copies.has(key);
  }

  /** Who has this name on the model server. */
  holderOf(serverName: string): Copy | undefined {
    return this.#names.get(serverName);
  }

  all(): readonly Copy[] {
    return [...this.#copies.values()];
  }

  /** What copies of this tenant take that are there or on their way, but for those that are leaving. */
  bytesOf(tenant: string): { readonly bytes: number; readonly loadingBytes: number } {
    let [bytes, loadingBytes] = [0, 0];
    for (const copy of this.#copies.values()) {
      if (copy.tenant !== tenant || (copy.state !== "ready" && copy.state !== "loading")) continue;
      bytes += copy.sizeBytes;
      if (copy.state === "loading") loadingBytes += copy.sizeBytes;
    }
    return { bytes, loadingBytes };
  }

  /** Those of one tenant alone, when it is named. */
  *candidates(nowMs: number, tenant?: string): Generator<EvictionCandidate<string>, void> {
    for (const entry of this.#lru.fromOldest()) {
      const copy = this.#copies.get(entry.key);
      if (tenant !== undefined && copy?.tenant !== tenant) continue;
      const { pinned = false, heat = noHeat } = copy ?? {};
      yield { ...entry, pinned, requestsPerSecond: rateOf(heat, nowMs) };
    }
  }

  /** What has changed since the last call. */
  takeChanged(): ReadonlyMap<string, CopyName> {
    const changed = this.#changed;
    this.#changed = new Map();
    return changed;
  }

  /** Notes a change of what has no copy here: it is queued, or was. */
  move(copy: CopyName, from: CopyState, to: CopyState): void {
    assertArrow(from, to);
    this.#changed.set(copyKey(copy), nameOfCopy(copy));
  }

  /** From the queue. */
  load(name: NewCopy, reservedBytes: number): void {
    const copy: Copy = { ...name, heat: noHeat, state: "loading", sizeBytes: reservedBytes, failure: undefined };
    this.#reservedBytes += reservedBytes;
    this.#loading += 1;
    this.#copies.set(copy.key, copy);
    this.#names.set(copy.serverName, copy);
    this.move(copy, "queued", "loading");
  }

  loaded(copy: Copy, sizeBytes: number, lastUsedMs: number, isGuess = false): void {
    this.#endLoad(copy);
    copy.lastUsedMs = lastUsedMs;
    this.#becomeReady(copy, "loading", sizeBytes);
    // A hint is what somebody knew.
    if (!isGuess || copy.facts === undefined || copy.facts.sizeHintBytes !== undefined) return;
    const { format } = copy.facts;
    this.#guessed.set(format, (this.#guessed.get(format) ?? new Set()).add(copy));
  }

  guessed(format: string): readonly Copy[] {
    return Array.from(this.#guessed.get(format) ?? []);
  }

  /** It is known better now what a copy that was guessed takes. */
  reprice(copy: Copy, sizeBytes: number): void {
    this.#isKnown(copy);
    if (copy.sizeBytes === sizeBytes) return;
    copy.sizeBytes = sizeBytes;
    this.#lru.set(copy.key, { lastUsedMs: this.#lru.get(copy.key)?.lastUsedMs ?? copy.lastUsedMs, sizeBytes });
    this.#changed.set(copy.key, nameOfCopy(copy));
  }

  loadFailed(copy: Copy, failure: CopyFailure): void {
    this.#endLoad(copy);
    this.#names.delete(copy.serverName);
    this.#fail(copy, "loading", failure);
  }

  /** Before it could even start. */
  failQueued(name: NewCopy, failure: CopyFailure): void {
    this.#fail({ ...name, heat: noHeat, state: "failed", sizeBytes: 0, failure: undefined }, "queued", failure);
  }

  /** The model server holds it already. */
  adopt(name: NewCopy, from: CopyState, sizeBytes: number): void {
    this.#becomeReady({ ...name, heat: noHeat, state: "ready", sizeBytes: 0, failure: undefined }, from, sizeBytes);
  }

  leave(copy: Copy): void {
    this.#isKnown(copy);
    this.#lru.delete(copy.key);
    this.#leavingBytes += copy.sizeBytes;
    copy.state = "leaving";
    this.move(copy, "ready", "leaving");
  }

  /** A ready or leaving copy is not there any more. */
  drop(copy: Copy): void {
    if (copy.state === "leaving") this.#leavingBytes -= copy.sizeBytes;
    this.#isKnown(copy);
    this.#lru.delete(copy.key);
    this.#names.delete(copy.serverName);
    this.#copies.delete(copy.key);
    this.move(copy, copy.state, "gone");
  }

  /** A failed copy is spoken of no more; what becomes of it the caller notes. */
  forget(copy: Copy): void {
    this.#failed.delete(copy.key);
    this.#copies.delete(copy.key);
  }

  own(owners: ReadonlyMap<string, string | undefined>): void {
    for (const copy of this.#copies.values()) if (owners.has(copy.model)) copy.tenant = owners.get(copy.model);
  }

  touch(key: string, lastUsedMs: number): void {
    const copy = this.#copies.get(key);
    if (copy?.state !== "ready" || lastUsedMs <= copy.lastUsedMs) return;
    copy.lastUsedMs = lastUsedMs;
    this.#lru.touch(key, lastUsedMs + bonusMs(copy.heat));
  }

  /** So many requests were heard of; false when there is no such copy. */
  used(key: string, lastUsedMs: number, requests: number, nowMs: number): boolean {
    const copy = this.#copies.get(key);
    if (copy?.state !== "ready") return false;
    copy.heat = warmUp(copy.heat, requests, nowMs);
    this.touch(key, lastUsedMs);
    return true;
  }

  #isKnown(copy: Copy): void {
    const format = copy.facts?.format ?? "";
    const guessed = this.#guessed.get(format);
    if (guessed?.delete(copy) === true && guessed.size === 0) this.#guessed.delete(format);
  }

  #endLoad(copy: Copy): void {
    this.#loading -= 1;
    this.#reservedBytes -= copy.sizeBytes;
  }

  #becomeReady(copy: Copy, from: CopyState, sizeBytes: number): void {
    copy.state = "ready";
    copy.sizeBytes = sizeBytes;
    this.#copies.set(copy.key, copy);
    this.#names.set(copy.serverName, copy);
    this.#lru.set(copy.key, { lastUsedMs: copy.lastUsedMs, sizeBytes });
    this.move(copy, from, "ready");
  }

  #fail(copy: Copy, from: CopyState, { kind, reason, suspects }: CopyFailure): void {
    copy.state = "failed";
    copy.sizeBytes = 0;
    const said = { kind, reason: reason.slice(0, maxReasonLength).toWellFormed() };
    copy.failure = suspects === undefined ? said : { ...said, suspects };
    this.#copies.set(copy.key, copy);
    this.#failed.add(copy.key);
    this.move(copy, from, "failed");
    for (const key of this.#failed) {
      if (this.#failed.size <= this.#maxFailed) break;
      const oldest = this.#copies.get(key);
      if (oldest === undefined) continue;
      this.forget(oldest);
      this.move(oldest, "failed", "gone");
    }
  }
}

function nameOfCopy({ model, revision, slot }: CopyName): CopyName {
  return { model, revision, slot };
}

export function viewOf(copy: Copy): CopyView {
  const { model, revision, slot, state, sizeBytes, lastUsedMs, failure } = copy;
  return { model, revision, slot, state, sizeBytes, lastUsedMs, ...(failure === undefined ? {} : { failure }) };
}
