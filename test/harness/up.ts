// Owns `warmpath up` as a user runs it: a process in a group of its own, with its own state and temporary folder.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { findFreePorts } from "#cli/up/ports.ts";
import { createLineCutter } from "#platform/lines.ts";
import { descendantsOf, livingOf, type ProcessMark } from "./proc.ts";
import { findEnvoy, findLibrary } from "./setup.ts";
import { waitUntil } from "./wait.ts";

export interface UpPorts {
  readonly http: number;
  readonly grpc: number;
  readonly admin: number;
}

export interface UpOptions {
  readonly stateFolder: string;
  readonly tempFolder: string;
  readonly ports: UpPorts;
  readonly flags?: readonly string[];
}

export interface UpExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface UpProcess extends AsyncDisposable {
  readonly pid: number;
  readonly stdout: readonly string[];
  readonly stderr: readonly string[];
  /** Milliseconds from its start to its welcome. */
  whenUp(): Promise<number>;
  /** All processes below it, remembered for `left`. */
  remember(): readonly ProcessMark[];
  /** Which of those remembered still live. */
  left(): readonly ProcessMark[];
  /** To its whole group, as a terminal does. */
  interrupt(signal?: NodeJS.Signals): void;
  /** To it alone. */
  kill(signal: NodeJS.Signals): void;
  readonly exited: Promise<UpExit>;
}

export async function findUpPorts(): Promise<UpPorts> {
  // Not the first ones, which another fleet of this process would take.
  const [http = 0, grpc = 0, admin = 0] = (await findFreePorts("127.0.0.1", 23)).slice(20);
  return { http, grpc, admin };
}

export async function openUp({ stateFolder, tempFolder, ports, flags = [] }: UpOptions): Promise<UpProcess> {
  const startMs = performance.now();
  const args = [
    "--http-port",
    `${ports.http}`,
    "--grpc-port",
    `${ports.grpc}`,
    "--admin-port",
    `${ports.admin}`,
    "--state",
    stateFolder,
  ];
  const child = spawn(process.execPath, [fileURLToPath(new URL("../../cli/main.ts", import.meta.url)), "up", ...args, ...flags], {
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, TMPDIR: tempFolder, WARMPATH_ENVOY: await findEnvoy(), WARMPATH_LIBRARY: await findLibrary() },
  });
  const { pid } = child;
  if (pid === undefined) throw new Error("warmpath could not be started");
  const stdout: string[] = [];
  const stderr: string[] = [];
  for (const [stream, lines] of [
    [child.stdout, stdout],
    [child.stderr, stderr],
  ] as const) {
    const cutter = createLineCutter((line) => void lines.push(line));
    stream.on("data", (chunk: Buffer) => cutter.push(chunk));
    stream.once("close", () => cutter.end());
  }
  const { promise: exited, resolve } = Promise.withResolvers<UpExit>();
  let over = false;
  child.once("close", (code, signal) => {
    over = true;
    resolve({ code, signal });
  });
  let marks: readonly ProcessMark[] = [];
  return {
    pid,
    stdout,
    stderr,
    exited,
    async whenUp() {
      const isUp = (line: string): boolean => line.startsWith("warmpath is up");
      await waitUntil(
        "warmpath is up",
        () => ({ over, stdout, stderr }),
        (seen) => [...seen.stdout, ...seen.stderr].some(isUp),
        40_000,
      );
      return performance.now() - startMs;
    },
    remember: () => (marks = descendantsOf(pid)),
    left: () => livingOf(marks),
    interrupt: (signal = "SIGINT") => process.kill(-pid, signal),
    kill: (signal) => process.kill(pid, signal),
    async [Symbol.asyncDispose]() {
      if (over) return;
      process.kill(pid, "SIGKILL");
      await exited;
    },
  };
}
