// Owns the life of a foreign model server in tests: started on ports that stay its own, killed, started anew on the same
// ones, and gone with the test.
import { dyingWithParent } from "#cli/up/parentdeath.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import { type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import { createRestClient } from "./http.ts";

export interface ModelServer extends AsyncDisposable {
  /** `host:port` */
  readonly restAddress: string;
  readonly grpcAddress: string;
  readonly pid: number;
  /** Starts it again. */
  revive(): Promise<void>;
  kill(): Promise<void>;
  /** The end of what it printed. */
  tail(): string;
  /** Has it ended by itself? */
  readonly exit: string | undefined;
}

export interface Ports {
  readonly host: string;
  readonly rest: number;
  readonly grpc: number;
  /** As many as were asked for. */
  readonly more: readonly number[];
}

export interface ServerKind {
  /** Where it says that it is ready; as the Open Inference Protocol has it when absent. */
  readonly readyPath?: string;
  readonly morePorts?: number;
}

export interface Start {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

const host = "127.0.0.1";
const readyTimeoutMs = 120_000;
const keptLines = 20;

export async function openModelServer(
  name: string,
  start: (ports: Ports) => Start | Promise<Start>,
  { readyPath = "/v2/health/ready", morePorts = 0 }: ServerKind = {},
): Promise<ModelServer> {
  const [rest = 0, grpc = 0, ...more] = await findFreePorts(host, 2 + morePorts);
  const restAddress = `${host}:${rest}`;
  const { command, args, env } = await start({ host, rest, grpc, more });
  const program = await dyingWithParent({ command, args });
  const printed: string[] = [];
  const tail = (): string => printed.slice(-keptLines).join("\n");
  let child: SupervisedProcess;
  let exit: string | undefined;
  const revive = async (): Promise<void> => {
    exit = undefined;
    child = superviseProcess({
      name,
      ...program,
      env,
      readyProbe: async () => {
        await using client = createRestClient(`http://${restAddress}`);
        return (await client.ask(readyPath)).status === 200;
      },
      readyTimeoutMs,
      restart: { kind: "never" },
      onOutput: (line) => void printed.push(line),
      onExit: ({ code, signal }) => {
        exit = `code ${code}, signal ${signal}`;
      },
    });
    await child.ready.catch((cause: unknown) => {
      throw new Error(`${name} did not start\n${tail()}`, { cause });
    });
  };
  await revive();
  return {
    restAddress,
    grpcAddress: `${host}:${grpc}`,
    revive,
    tail,
    get pid() {
      return child.pid ?? 0;
    },
    get exit() {
      return exit;
    },
    async kill(): Promise<void> {
      process.kill(child.pid ?? 0, "SIGKILL");
      await child.stop();
    },
    [Symbol.asyncDispose]: () => child.stop(),
  };
}

export interface Mishaps extends AsyncDisposable {
  kill(): Promise<void>;
  revive(): Promise<void>;
  /** It answers nothing until it is resumed. */
  hang(): void;
  resume(): void;
}

/** What befalls it, as a contract suite wants to bring it about. */
export function mishapsOf(server: ModelServer): Mishaps {
  return {
    kill: () => server.kill(),
    revive: () => server.revive(),
    hang: () => void process.kill(server.pid, "SIGSTOP"),
    resume: () => void process.kill(server.pid, "SIGCONT"),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** The server with more to it; its pid and its end stay those of the moment. */
export function delegate<T extends object>(server: ModelServer, more: T): ModelServer & T {
  return Object.assign(Object.create(server), more);
}
