// Owns the form of log lines: one JSON object a line, a constant message with keys, credentials blanked.
// Nothing else in the house knows the logging library.
import { AsyncLocalStorage } from "node:async_hooks";
import type { Writable } from "node:stream";
import { pino } from "pino";

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

export type LogKeys = Readonly<Record<string, unknown>>;

/** Messages are constant texts; what varies goes into keys (an Error under `error`). */
export interface Log {
  debug(message: string, keys?: LogKeys): void;
  info(message: string, keys?: LogKeys): void;
  warn(message: string, keys?: LogKeys): void;
  error(message: string, keys?: LogKeys): void;
  /** A log that adds these keys to each line. */
  with(keys: LogKeys): Log;
}

export interface LogOptions {
  readonly service: string;
  /** "info" when absent. */
  readonly level?: LogLevel;
  /** Standard error when absent. */
  readonly destination?: "stderr" | { readonly file: string } | Writable;
}

export type OwnedLog = Log & Disposable;

const secretKeys = [
  "authorization",
  "proxy-authorization",
  "cookie",
  "set-cookie",
  "password",
  "secret",
  "token",
  "apiKey",
  "accessKey",
  "secretKey",
  "accessKeyId",
  "secretAccessKey",
  "sessionToken",
  "connectionString",
  "privateKey",
  "credentials",
];

const secretPaths = ["", "*.", "*.*."].flatMap((prefix) =>
  secretKeys.map((key) => {
    const name = key.includes("-") ? `["${key}"]` : key;
    return name.startsWith("[") && prefix !== "" ? `${prefix.slice(0, -1)}${name}` : `${prefix}${name}`;
  }),
);

const shared = new AsyncLocalStorage<LogKeys>();

/** Lines that are logged by `work`, and by whatever it waits for, carry these keys, and none from around it. */
export function withLogKeys<T>(keys: LogKeys, work: () => T): T {
  return shared.run(keys, work);
}

export function createLog(options: LogOptions): OwnedLog {
  const { destination = "stderr" } = options;
  const out = isWritable(destination)
    ? undefined
    : pino.destination({ dest: destination === "stderr" ? 2 : destination.file, sync: true, mkdir: true });
  const lines = pino(
    {
      level: options.level ?? "info",
      base: { service: options.service, pid: process.pid },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err },
      // A line's own keys count more.
      mixin: () => ({ ...shared.getStore() }),
      redact: { paths: secretPaths, censor: "[redacted]" },
    },
    isWritable(destination) ? destination : out,
  );
  return Object.assign(wrap(lines), {
    [Symbol.dispose]: (): void => {
      if (destination !== "stderr") out?.end();
    },
  });
}

/** Says nothing. */
export const silentLog: Log = Object.freeze({
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => silentLog,
});

function isWritable(destination: NonNullable<LogOptions["destination"]>): destination is Writable {
  return typeof destination === "object" && "write" in destination;
}

function wrap(lines: pino.Logger): Log {
  return {
    debug: (message, keys = {}) => lines.debug(keys, message),
    info: (message, keys = {}) => lines.info(keys, message),
    warn: (message, keys = {}) => lines.warn(keys, message),
    error: (message, keys = {}) => lines.error(keys, message),
    with: (keys) => wrap(lines.child({ ...keys })),
  };
}
