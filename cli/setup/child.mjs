// Owns the programs that set-up and launch run: their signals, their output, their exit codes.
import { spawn } from "node:child_process";
import { constants } from "node:os";

/** Set-up was ended by a signal: nothing went wrong. */
export class Interrupted extends Error {
  name = "Interrupted";

  constructor(signal) {
    super(`ended by ${signal}`);
    this.signal = signal;
  }
}

/** @typedef {{ code: number | null, signal: string | null }} Exit */

/**
 * Runs the command in the terminal until it ends. Signals are passed on and never end the launcher before its child.
 * In a terminal Ctrl-C reaches the child twice, which it counts as one. The channel carries nothing: when the launcher
 * is killed it closes, and the child stops.
 * @returns {Promise<Exit>}
 */
export async function runForeground(command, args, env) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["inherit", "inherit", "inherit", "ipc"] });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  return exitOf(child);
}

/**
 * Runs a set-up step; its output is kept for the error message. A signal ends the step, then set-up, which cleans up
 * behind itself; a second one ends both at once.
 * @param {(line: string) => void} [onLine]
 * @returns {Promise<Exit & { output: string }>}
 */
export async function runStep(command, args, options = {}, onLine = () => undefined) {
  const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let rest = "";
  const read = (chunk) => {
    output = (output + chunk).slice(-20_000);
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  };
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", read);
  /** @type {Interrupted | undefined} */
  let interrupted;
  const stop = (signal) => {
    if (interrupted !== undefined) process.exit(128 + constants.signals[signal]);
    interrupted = new Interrupted(signal);
    child.kill(signal);
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
  try {
    const exit = await exitOf(child);
    if (interrupted !== undefined) throw interrupted;
    return { ...exit, output };
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}

/** Ends this process as the child ended. */
export function exitWith({ code, signal }) {
  process.exit(code ?? 128 + constants.signals[signal ?? "SIGTERM"]);
}

function exitOf(child) {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
}
