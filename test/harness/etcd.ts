// Owns a real etcd server for tests: on free ports, in a folder of its own, killed, frozen, emptied and started again at
// will. It dies with the process that started it.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Etcd3 } from "etcd3";
import { acceptsAt, buildEtcd, type EtcdOptions } from "#cli/up/etcd.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { freezeProcess } from "./proc.ts";

export interface EtcdServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** `host:port` */
  readonly address: string;
  readonly pid: number;
  /** Ends it with this signal; resolves when it is gone. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again on the same ports, and resolves when it accepts connections. */
  start(): Promise<void>;
  /** What it keeps is gone. Only while it is not running. */
  loseData(): void;
  /** Resolves when it stands still. */
  freeze(): Promise<void>;
  thaw(): void;
}

const host = "127.0.0.1";
let opened = 0;

export type EtcdServerOptions = Pick<EtcdOptions, "tls" | "flags">;

export async function openEtcd(options: EtcdServerOptions = {}): Promise<EtcdServer> {
  await using opening = new AsyncDisposableStack();
  const dataFolder = opening.use(await openRunFolder()).path;
  // Not the first ones, which a fleet of this process would take; and others each time, since clients remember which
  // addresses do not answer.
  const first = 40 + 2 * opened;
  opened += 1;
  const [port = 0, peerPort = 0] = (await findFreePorts(host, first + 2)).slice(first);
  // What is not safe against a power cut is as good as safe against a killed process, and spares the disk.
  const { command, args } = await buildEtcd({
    host,
    port,
    peerPort,
    dataFolder,
    ...options,
    flags: ["--unsafe-no-fsync", ...(options.flags ?? [])],
  });
  let child: ChildProcess | undefined;
  const said: string[] = [];

  const server = {
    host,
    port,
    address: `${host}:${port}`,
    get pid(): number {
      if (child?.pid === undefined) throw new Error("etcd is not running");
      return child.pid;
    },
    async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
      const killed = child;
      if (killed === undefined) return;
      child = undefined;
      const exited = once(killed, "exit");
      killed.kill(signal);
      // A frozen one ends when it is thawed.
      if (signal !== "SIGKILL") killed.kill("SIGCONT");
      await exited;
    },
    async start(): Promise<void> {
      const started = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
      child = started;
      started.stderr.on("data", (chunk: Buffer) => void said.push(chunk.toString()));
      await waitFor(
        async () => {
          if (started.exitCode !== null) throw new Error(`etcd ended: ${said.join("").slice(-2_000)}`);
          return await acceptsAt(host, port);
        },
        { timeoutMs: 30_000 },
      );
    },
    loseData: () => rmSync(join(dataFolder, "etcd"), { recursive: true, force: true }),
    freeze: () => freezeProcess(server.pid),
    thaw: () => process.kill(server.pid, "SIGCONT"),
  };
  opening.defer(() => server.kill());
  await server.start();
  const parts = opening.move();
  return Object.assign(server, { [Symbol.asyncDispose]: () => parts.disposeAsync() });
}

/** The plain client, for what the registry does not do: compaction, users. */
export function createEtcdClient(server: EtcdServer): Etcd3 & Disposable {
  const client = new Etcd3({ hosts: `http://${server.address}` });
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}
