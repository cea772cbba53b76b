// Owns the way to an etcd cluster: one etcd3 client for each member, of which one is in use; credentials; deadlines.
// Invariants: every unary call has a deadline; a read is asked of other members when one does not answer, a write is sent
// once, for whether a lost one was done cannot be known; etcd3's own retries and circuit breakers are off, since they
// would repeat writes and block calls that have nothing to do with a failure.
import { readFileSync } from "node:fs";
import { rootCertificates } from "node:tls";
import { type CallOptions, InterceptingCall, type Interceptor } from "@grpc/grpc-js";
import { noop } from "cockatiel";
import { Etcd3 } from "etcd3";
import { errorMessage } from "#core/errors.ts";
import { systemClock } from "../clock.ts";
import { StartupError } from "../lifecycle.ts";
import type { Log } from "../log.ts";
import { classify, explain, tokenIsSpent } from "./etcderrors.ts";
import { describeTarget, type EtcdTarget } from "./target.ts";

export type EtcdCall<T> = (etcd: Etcd3, options: CallOptions) => Promise<T>;

const maxMessageBytes = 256 * 2 ** 20;
/** etcd counts pings that come sooner than every 5 s as an attack. */
const keepaliveMs = 8_000;
const keepaliveTimeoutMs = 4_000;
const reloadMs = 5_000;
/** Of a member that may be dead or frozen, when there are others. */
const leastTryMs = 500;

export class EtcdClient implements Disposable {
  readonly #target: EtcdTarget;
  readonly #log: Log;
  readonly #where: string;
  #files: TlsContents | undefined;
  #members: readonly Etcd3[];
  /** The member in use. */
  #current = 0;
  /** The last call failed: a write waits until a read has found a member that answers. */
  #suspect = true;
  #token: Promise<string> | undefined;
  readonly #reload: NodeJS.Timeout | undefined;
  #closed = false;

  /** Connects to nothing yet. Throws a StartupError when the files of the target cannot be used. */
  constructor(target: EtcdTarget, log: Log) {
    this.#target = target;
    this.#log = log;
    this.#where = describeTarget(target);
    if (target.login !== undefined) readSecret(target.login.passwordFile);
    this.#files = readTls(target);
    this.#members = this.#connect();
    if (target.tls !== undefined) {
      this.#reload = setInterval(() => this.reloadWhenChanged(), reloadMs);
      this.#reload.unref();
    }
  }

  get where(): string {
    return this.#where;
  }

  /** Asked of the member in use, then of the others. */
  async read<T>(call: EtcdCall<T>, timeoutMs: number): Promise<T> {
    const endMs = systemClock.monotonicMs() + timeoutMs;
    const tryMs = Math.max(leastTryMs, timeoutMs / this.#members.length);
    for (let tried = 1; ; tried += 1) {
      try {
        const leftMs = endMs - systemClock.monotonicMs();
        const done = await this.#once(call, Math.max(1, Math.min(tryMs, leftMs)));
        this.#suspect = false;
        return done;
      } catch (error) {
        if (tried >= this.#members.length || systemClock.monotonicMs() >= endMs || classify(error) !== "away")
          throw this.#explained(error);
      }
    }
  }

  /** Sent once, to a member that answered last time. */
  async write<T>(call: EtcdCall<T>, timeoutMs: number): Promise<T> {
    const startMs = systemClock.monotonicMs();
    if (this.#suspect)
      await this.read(
        (etcd, options) => etcd.kv.range({ key: Buffer.from(this.#target.prefix), keys_only: true }, options),
        timeoutMs,
      );
    const leftMs = timeoutMs - (systemClock.monotonicMs() - startMs);
    try {
      return await this.#once(call, Math.max(1, leftMs));
    } catch (error) {
      throw this.#explained(error);
    }
  }

  /** Opens a stream on the member in use; its end is told with `onStreamError`. */
  async stream<T>(open: EtcdCall<T>): Promise<T> {
    const member = this.#member();
    try {
      return await open(member, await this.#options(undefined, true));
    } catch (error) {
      this.#failed(member, error);
      throw this.#explained(error);
    }
  }

  /** After a stream broke: the next one goes elsewhere, and with another token where that was the reason. */
  onStreamError(error: unknown): Error {
    this.#failed(this.#member(), error);
    return this.#explained(error);
  }

  /** Looks at the certificate files, and connects anew with what they hold now. */
  reloadWhenChanged(): void {
    try {
      const files = readTls(this.#target);
      if (this.#closed || JSON.stringify(files) === JSON.stringify(this.#files)) return;
      const before = { files: this.#files, members: this.#members };
      this.#files = files;
      try {
        this.#members = this.#connect();
      } catch (error) {
        this.#files = before.files;
        throw error;
      }
      for (const member of before.members) member.close();
      this.#log.info("certificates for the registry were read anew", { registry: this.#where });
    } catch (error) {
      // Half-written, perhaps: what is in use goes on, and the next look is soon.
      this.#log.warn("certificates for the registry cannot be read; the old ones stay in use", { error: errorMessage(error) });
    }
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearInterval(this.#reload);
    for (const member of this.#members) member.close();
  }

  async #once<T>(call: EtcdCall<T>, timeoutMs: number): Promise<T> {
    const endMs = systemClock.monotonicMs() + timeoutMs;
    for (let again = false; ; again = true) {
      const member = this.#member();
      try {
        return await call(member, await this.#options(Math.max(1, endMs - systemClock.monotonicMs()), false));
      } catch (error) {
        this.#failed(member, error);
        // Refused before it did anything: once more with a new token does no harm, even to a write.
        if (again || classify(error) !== "token") throw error;
      }
    }
  }

  #member(): Etcd3 {
    const member = this.#members[this.#current % this.#members.length];
    if (member === undefined) throw new Error("an etcd target has no hosts");
    return member;
  }

  #failed(member: Etcd3, error: unknown): void {
    const kind = classify(error);
    if (kind === "token") this.#token = undefined;
    if (kind !== "away") return;
    this.#suspect = true;
    // Only one of several callers moves on.
    if (member === this.#member()) this.#current = (this.#current + 1) % this.#members.length;
  }

  async #options(timeoutMs: number | undefined, isStream: boolean): Promise<CallOptions> {
    const headers: Record<string, string> = {};
    // A stream on a member that lost its cluster ends, instead of being silent for ever.
    if (isStream) headers["hasleader"] = "true";
    if (this.#target.login !== undefined) headers["token"] = await this.#authenticate(timeoutMs ?? 2_000);
    return {
      ...(timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs }),
      interceptors: [withHeaders(headers)],
    };
  }

  async #authenticate(timeoutMs: number): Promise<string> {
    const { login } = this.#target;
    if (login === undefined) return "";
    // The file is read each time: a password that was changed is found there.
    this.#token ??= this.#member()
      .auth.authenticate({ name: login.user, password: readSecret(login.passwordFile) }, { deadline: Date.now() + timeoutMs })
      .then(({ token }) => token);
    const asked = this.#token;
    try {
      return await asked;
    } catch (error) {
      if (this.#token === asked) this.#token = undefined;
      throw error;
    }
  }

  #connect(): readonly Etcd3[] {
    const { hosts, tls } = this.#target;
    const files = this.#files;
    try {
      return hosts.map(
        (host) =>
          new Etcd3({
            hosts: `${tls === undefined ? "http" : "https"}://${host}`,
            ...(files === undefined ? {} : { credentials: credentialsOf(files) }),
            grpcOptions: {
              "grpc.max_receive_message_length": maxMessageBytes,
              "grpc.max_send_message_length": maxMessageBytes,
              "grpc.keepalive_time_ms": keepaliveMs,
              "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
              "grpc.initial_reconnect_backoff_ms": 100,
              "grpc.max_reconnect_backoff_ms": 1_000,
              "grpc.enable_channelz": 0,
              ...(tls?.serverName === undefined ? {} : { "grpc.ssl_target_name_override": tls.serverName }),
            },
            faultHandling: { host: () => noop, global: noop },
          }),
      );
    } catch (cause) {
      throw new StartupError(`the certificates for ${this.#where} cannot be used: ${errorMessage(cause)}`, { cause });
    }
  }

  #explained(error: unknown): Error {
    return explain(error, this.#where);
  }
}

interface TlsContents {
  readonly ca: string;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

function readTls({ tls }: EtcdTarget): TlsContents | undefined {
  if (tls === undefined) return undefined;
  return {
    ca: tls.caFile === undefined ? rootCertificates.join("\n") : readNamed(tls.caFile, "--etcd-ca"),
    cert: tls.certFile === undefined ? undefined : readNamed(tls.certFile, "--etcd-cert"),
    key: tls.keyFile === undefined ? undefined : readNamed(tls.keyFile, "--etcd-key"),
  };
}

function credentialsOf({ ca, cert, key }: TlsContents): { rootCertificate: Buffer; privateKey?: Buffer; certChain?: Buffer } {
  return {
    rootCertificate: Buffer.from(ca),
    ...(key === undefined ? {} : { privateKey: Buffer.from(key) }),
    ...(cert === undefined ? {} : { certChain: Buffer.from(cert) }),
  };
}

function readSecret(file: string): string {
  return readNamed(file, "--etcd-password-file").replace(/\r?\n$/, "");
}

function readNamed(file: string, flag: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new StartupError(`${flag}: ${errorMessage(cause)}`, { cause });
  }
}

const spentToken = "etcdserver: invalid auth token";

/**
 * Adds headers to a call. A refused token is told in other words than etcd's: etcd3 would take those for a reason to repeat
 * the very same call until its deadline.
 */
function withHeaders(headers: Readonly<Record<string, string>>): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, _listener, next) {
        for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
        next(metadata, {
          onReceiveMetadata: (received, go) => go(received),
          onReceiveMessage: (message, go) => go(message),
          onReceiveStatus: (status, go) => go({ ...status, details: status.details.replace(spentToken, tokenIsSpent) }),
        });
      },
    });
}
