// Owns the embedded registry's file: its tables and every statement on them. Synchronous; knows no timers or watchers.
// Invariants: revisions grow by one per change, in one transaction with it. `tombstones` keeps the revision of each
// deletion until it is compacted; `compacted` is the highest revision forgotten. Lease deadlines are on the machine's
// monotonic clock, which all its processes share, and are worth nothing after a reboot (another boot id).
import { mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { StartupError } from "../lifecycle.ts";
import type { Change, Conflict, Entry, Page } from "./registry.ts";

const schemaVersion = 1;
/** How long a statement waits for another process's transaction. */
const busyTimeoutMs = 2_000;

const schema = `
  CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  INSERT OR IGNORE INTO state VALUES ('revision', 0), ('compacted', 0), ('id', abs(random()) % 1000000000000000);
  CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL, lease TEXT) STRICT;
  CREATE UNIQUE INDEX IF NOT EXISTS entries_by_revision ON entries (revision);
  CREATE INDEX IF NOT EXISTS entries_by_lease ON entries (lease) WHERE lease IS NOT NULL;
  CREATE TABLE IF NOT EXISTS tombstones (revision INTEGER PRIMARY KEY, key TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS leases (id TEXT PRIMARY KEY, boot TEXT NOT NULL, ends_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  PRAGMA user_version = ${schemaVersion};
`;

const statements = {
  begin: "BEGIN IMMEDIATE",
  beginRead: "BEGIN",
  commit: "COMMIT",
  rollback: "ROLLBACK",
  dataVersion: "PRAGMA data_version",
  state: "SELECT number FROM state WHERE name = ?",
  nextRevision: "UPDATE state SET number = number + 1 WHERE name = 'revision' RETURNING number",
  setCompacted: "UPDATE state SET number = ? WHERE name = 'compacted'",
  get: "SELECT key, value, revision FROM entries WHERE key = ?",
  list: "SELECT key, value, revision FROM entries WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
  put: "INSERT INTO entries VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, lease = excluded.lease",
  delete: "DELETE FROM entries WHERE key = ?",
  bury: "INSERT INTO tombstones VALUES (?, ?)",
  countTombstones: "SELECT count(*) AS number FROM tombstones",
  nthTombstone: "SELECT revision AS number FROM tombstones ORDER BY revision DESC LIMIT 1 OFFSET ?",
  forget: "DELETE FROM tombstones WHERE revision <= ?",
  putsAfter: "SELECT key, value, revision FROM entries WHERE revision > ? ORDER BY revision LIMIT ?",
  deletesAfter: "SELECT key, revision FROM tombstones WHERE revision > ? ORDER BY revision LIMIT ?",
  openLease: "INSERT INTO leases VALUES (?, ?, ?)",
  extendLease: "UPDATE leases SET ends_ms = ? WHERE id = ? AND boot = ? AND ends_ms > ?",
  leaseIsOpen: "SELECT 1 AS number FROM leases WHERE id = ? AND boot = ? AND ends_ms > ?",
  endedLeases: "SELECT id FROM leases WHERE ends_ms <= ? OR boot <> ?",
  closeLease: "DELETE FROM leases WHERE id = ?",
  keysOfLease: "SELECT key FROM entries WHERE lease = ?",
} as const;

export interface Changes {
  readonly changes: readonly Change[];
  /** All changes up to this revision were seen. */
  readonly revision: number;
}

export interface StoreOptions {
  readonly file: string;
  /** So many deletions are remembered at least, and at most twice as many. */
  readonly keepDeletions: number;
}

export class Store implements Disposable {
  readonly #database: DatabaseSync;
  readonly #run: Readonly<Record<keyof typeof statements, StatementSync>>;
  readonly #keepDeletions: number;
  readonly #boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  #deletions: number | undefined;

  constructor(database: DatabaseSync, keepDeletions: number) {
    this.#database = database;
    this.#keepDeletions = keepDeletions;
    const prepare = ([name, sql]: readonly [string, string]): readonly [string, StatementSync] => [name, database.prepare(sql)];
    this.#run = Object.fromEntries(Object.entries(statements).map(prepare)) as Record<keyof typeof statements, StatementSync>;
  }

  get(key: string): Entry | undefined {
    return toEntry(this.#run.get.get(key));
  }

  list(prefix: string, after: string | undefined, limit: number): Page {
    return this.#read(() => {
      // Keys are ASCII: the character after all of them ends the range, and a key is greater than its proper prefix.
      const from = after === undefined || after < prefix ? before(prefix) : after;
      const rows = this.#run.list.all(from, `${prefix}\u007F`, limit + 1).flatMap((row) => toEntry(row) ?? []);
      const storeId = String(toNumber(this.#run.state.get("id"), "number"));
      return { entries: rows.slice(0, limit), more: rows.length > limit, revision: this.revision(), storeId };
    });
  }

  revision(): number {
    return toNumber(this.#run.state.get("revision"), "number");
  }

  /** Differs from the last reading when another connection has written since. */
  dataVersion(): number {
    return toNumber(this.#run.dataVersion.get(), "data_version");
  }

  put(
    key: string,
    value: string,
    expect: number | "absent" | undefined,
    lease: string | undefined,
  ): { readonly kind: "ok"; readonly revision: number } | Conflict | { readonly kind: "lease ended" } {
    return this.#write(() => {
      const conflict = this.#conflictWith(key, expect);
      if (conflict !== undefined) return conflict;
      if (lease !== undefined && this.#run.leaseIsOpen.get(lease, this.#boot, machineMs()) === undefined)
        return { kind: "lease ended" };
      return { kind: "ok", revision: this.#set(key, value, lease) };
    });
  }

  putMany(entries: readonly { readonly key: string; readonly value: string }[]): number {
    return this.#write(() => {
      for (const { key, value } of entries) this.#set(key, value, undefined);
      return this.revision();
    });
  }

  delete(key: string, expect: number | undefined): { readonly kind: "ok"; readonly revision: number } | Conflict {
    return this.#write(() => {
      const conflict = this.#conflictWith(key, expect);
      if (conflict !== undefined) return conflict;
      this.#remove(key);
      return { kind: "ok", revision: this.revision() };
    });
  }

  /** Changes of any key after `revision`, at most `limit`; "compacted" when some of them are forgotten. */
  changesAfter(revision: number, limit: number): Changes | "compacted" {
    return this.#read(() => {
      const head = this.revision();
      // A revision of the future was given by another file that stood here before.
      if (revision < toNumber(this.#run.state.get("compacted"), "number") || revision > head) return "compacted";
      const puts = this.#run.putsAfter
        .all(revision, limit)
        .flatMap((row): Change[] => [{ type: "put", ...(toEntry(row) ?? missing()) }]);
      const deletes = this.#run.deletesAfter
        .all(revision, limit)
        .map((row): Change => ({ type: "delete", key: String(row["key"]), revision: toNumber(row, "revision") }));
      const changes = [...puts, ...deletes].sort((a, b) => a.revision - b.revision).slice(0, limit);
      return { changes, revision: changes.length < limit ? head : (changes.at(-1)?.revision ?? head) };
    });
  }

  openLease(id: string, ttlMs: number): void {
    // The clock is cut to whole milliseconds: one more, so that the holder never believes in a lease that has ended.
    this.#write(() => this.#run.openLease.run(id, this.#boot, machineMs() + ttlMs + 1));
  }

  /** False when it has ended. */
  extendLease(id: string, ttlMs: number): boolean {
    const nowMs = machineMs();
    return this.#write(() => this.#run.extendLease.run(nowMs + ttlMs + 1, id, this.#boot, nowMs).changes === 1);
  }

  closeLease(id: string): void {
    this.#write(() => this.#endLease(id));
  }

  /** Removes ended leases with their entries, whoever held them; true when there were some. */
  endLeases(): boolean {
    if (this.#run.endedLeases.get(machineMs(), this.#boot) === undefined) return false;
    return this.#write(() => {
      const ended = this.#run.endedLeases.all(machineMs(), this.#boot);
      for (const { id } of ended) this.#endLease(String(id));
      return ended.length > 0;
    });
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  #conflictWith(key: string, expect: number | "absent" | undefined): Conflict | undefined {
    if (expect === undefined) return undefined;
    const current = this.get(key);
    return (current?.revision ?? "absent") === expect ? undefined : { kind: "conflict", current };
  }

  #set(key: string, value: string, lease: string | undefined): number {
    const revision = toNumber(this.#run.nextRevision.get(), "number");
    this.#run.put.run(key, value, revision, lease ?? null);
    return revision;
  }

  #remove(key: string): void {
    if (this.#run.delete.run(key).changes === 0) return;
    this.#run.bury.run(toNumber(this.#run.nextRevision.get(), "number"), key);
    // Other processes bury too: this count only says when to look.
    this.#deletions = (this.#deletions ?? toNumber(this.#run.countTombstones.get(), "number")) + 1;
    if (this.#deletions > 2 * this.#keepDeletions) this.#compact();
  }

  #compact(): void {
    const oldest = this.#run.nthTombstone.get(this.#keepDeletions);
    if (oldest !== undefined) {
      const revision = toNumber(oldest, "number");
      this.#run.forget.run(revision);
      this.#run.setCompacted.run(revision);
    }
    this.#deletions = toNumber(this.#run.countTombstones.get(), "number");
  }

  #endLease(id: string): void {
    for (const { key } of this.#run.keysOfLease.all(id)) this.#remove(String(key));
    this.#run.closeLease.run(id);
  }

  #write<T>(work: () => T): T {
    return this.#within(this.#run.begin, work);
  }

  /** Several statements that see one state. */
  #read<T>(work: () => T): T {
    return this.#within(this.#run.beginRead, work);
  }

  #within<T>(begin: StatementSync, work: () => T): T {
    begin.run();
    try {
      const result = work();
      this.#run.commit.run();
      return result;
    } catch (error) {
      // Some failures have ended the transaction already.
      if (this.#database.isTransaction) this.#run.rollback.run();
      this.#deletions = undefined;
      throw error;
    }
  }
}

/** Opens or makes the file; a StartupError when it is none of ours. */
export function openStore({ file, keepDeletions }: StoreOptions): Store {
  mkdirSync(dirname(file), { recursive: true });
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { timeout: busyTimeoutMs });
    const version = toNumber(database.prepare("PRAGMA user_version").get(), "user_version");
    if (version !== 0 && version !== schemaVersion) {
      throw new StartupError(
        `The registry file ${file} was written by another version (${version}): move it away, or name another file.`,
      );
    }
    // NORMAL loses nothing to a killed process; only a power cut may take the last transactions, never the file.
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16384");
    database.exec(`BEGIN IMMEDIATE; ${schema} COMMIT;`);
    return new Store(database, keepDeletions);
  } catch (error) {
    database?.close();
    if (error instanceof StartupError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    const advice = /disk is full|readonly|unable to open/.test(reason)
      ? "make room and let it be written there, or name another file."
      : "move it away, or name another file.";
    throw new StartupError(`The registry file ${file} cannot be used (${reason}): ${advice}`, { cause: error });
  }
}

/** Milliseconds of the machine's monotonic clock: one for all processes, unlike performance.now(). */
export function machineMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/** A key that is less than the prefix, with nothing of the prefix's range between. */
function before(prefix: string): string {
  const last = prefix.charCodeAt(prefix.length - 1);
  return `${prefix.slice(0, -1)}${String.fromCharCode(last - 1)}\u007F`;
}

type Row = Record<string, SQLOutputValue> | undefined;

function toNumber(row: Row, column: string): number {
  const value = row?.[column];
  return typeof value === "number" ? value : missing();
}

function toEntry(row: Row): Entry | undefined {
  return row === undefined
    ? undefined
    : { key: String(row["key"]), value: String(row["value"]), revision: toNumber(row, "revision") };
}

function missing(): never {
  throw new Error("the registry file holds a row of another shape");
}
