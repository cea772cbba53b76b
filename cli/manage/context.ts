// Owns what every command that talks to a gateway shares: where the gateway is, how answers are written, and how values
// are read out of them.
import type { Command } from "commander";
import { createManageClient, type ManageClient } from "./client.ts";
import { CommandError } from "./failure.ts";
import { createPaint, type Paint, wantsColours } from "./table.ts";

/** Where a command's words go, and what ends it. */
export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isTerminal: boolean;
  readonly width: number;
  print(text: string): void;
  /** Shows a line in place of the one before; absent where nobody looks. */
  readonly progress?: ((line: string) => void) | undefined;
  readonly signal: AbortSignal;
  readonly setExitCode: (code: number) => void;
  /** For commands that start processes. */
  readonly stack: AsyncDisposableStack;
}

export interface Session {
  readonly client: ManageClient;
  readonly paint: Paint;
  readonly isJson: boolean;
  readonly terminal: Terminal;
  /** For programs with --json, for people otherwise. */
  show(body: unknown, text: () => string): void;
}

const defaultUrl = "http://127.0.0.1:8080";

/** Of every command that asks a gateway. */
export function addGatewayOptions(command: Command): Command {
  return command
    .option("--url <URL>", `management address of a gateway (default: $WARMPATH_URL, else ${defaultUrl})`)
    .option("--token-file <FILE>", "file with the bearer token to send (default: $WARMPATH_TOKEN_FILE)")
    .option("--ca-file <FILE>", "PEM authority of the gateway's certificate (default: $WARMPATH_CA_FILE)")
    .option("--timeout <SECONDS>", "longest wait for an answer (default: 30)")
    .option("--json", "one JSON object, for programs")
    .helpOption("-h, --help", "say this");
}

export type Options = Readonly<Record<string, unknown>>;

export function openSession(terminal: Terminal, options: Options): Session {
  const { env } = terminal;
  const isJson = options["json"] === true;
  return {
    client: createManageClient({
      url: textOf(options["url"]) ?? env["WARMPATH_URL"] ?? defaultUrl,
      tokenFile: textOf(options["tokenFile"]) ?? env["WARMPATH_TOKEN_FILE"],
      caFile: textOf(options["caFile"]) ?? env["WARMPATH_CA_FILE"],
      timeoutMs: (wholeOf("--timeout", options["timeout"], 1, 3_600) ?? 30) * 1_000,
    }),
    paint: createPaint(!isJson && wantsColours(env, terminal.isTerminal)),
    isJson,
    terminal,
    show: (body, text) => terminal.print(isJson ? JSON.stringify(body) : text()),
  };
}

export function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

export function numberOf(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}

export function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
}

export function listOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.map(recordOf) : [];
}

/** A whole number from the command line. */
export function wholeOf(option: string, value: unknown, least: number, most: number): number | undefined {
  if (value === undefined) return undefined;
  const number = typeof value === "string" && /^\d{1,12}$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= least && number <= most))
    throw new CommandError(
      "usage",
      `${option} must be a whole number from ${least} to ${most}, not '${typeof value === "string" ? value : typeof value}'`,
    );
  return number;
}

/** `key=value` again and again. */
export function pairsOf(option: string, values: unknown): Readonly<Record<string, string>> | undefined {
  if (!Array.isArray(values) || values.length === 0) return undefined;
  return Object.fromEntries(
    values.map((value) => {
      const text = String(value);
      const at = text.indexOf("=");
      if (at < 1) throw new CommandError("usage", `${option} must be key=value, not '${text}'`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

/** For options that may be given again and again. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

export function modelPath(name: string, rest = ""): string {
  return `/api/v1/models/${encodeURIComponent(name)}${rest}`;
}
