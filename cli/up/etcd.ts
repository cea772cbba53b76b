// Owns how an etcd server of one member is started, as `warmpath up --etcd` and tests do.
import { connect } from "node:net";
import { join } from "node:path";
import { etcdBinary, fetchEtcd } from "../setup/etcd.mjs";
import type { Program } from "./launchers.ts";
import { dyingWithParent } from "./parentdeath.ts";
import { authority } from "./ports.ts";

export interface EtcdOptions {
  readonly host: string;
  readonly port: number;
  readonly peerPort: number;
  /** Kept over restarts. */
  readonly dataFolder: string;
  /** Server certificate, its key, and the authority of client certificates, which are then wanted. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string; readonly clientCaFile?: string | undefined } | undefined;
  readonly flags?: readonly string[];
}

/** Fetches the pinned etcd when it is not there yet. It dies with this process. */
export async function buildEtcd(options: EtcdOptions): Promise<Program> {
  const { host, port, peerPort, dataFolder, tls, flags = [] } = options;
  await fetchEtcd();
  const scheme = tls === undefined ? "http" : "https";
  const client = `${scheme}://${authority(host, port)}`;
  const peer = `http://${authority(host, peerPort)}`;
  const settings: Readonly<Record<string, string | undefined>> = {
    name: "etcd-0",
    "data-dir": join(dataFolder, "etcd"),
    "log-level": "warn",
    "listen-client-urls": client,
    "advertise-client-urls": client,
    "listen-peer-urls": peer,
    "initial-advertise-peer-urls": peer,
    "initial-cluster": `etcd-0=${peer}`,
    // A watcher that was away for as many changes lists again.
    "auto-compaction-mode": "revision",
    "auto-compaction-retention": "30000",
    "cert-file": tls?.certFile,
    "key-file": tls?.keyFile,
    "trusted-ca-file": tls?.clientCaFile,
  };
  const args = Object.entries(settings).flatMap(([flag, value]) => (value === undefined ? [] : [`--${flag}`, value]));
  if (tls?.clientCaFile !== undefined) args.push("--client-cert-auth");
  return await dyingWithParent({ command: etcdBinary(), args: [...args, ...flags] });
}

/** Whether it accepts connections; it answers some moments later. */
export async function acceptsAt(host: string, port: number): Promise<boolean> {
  const socket = connect(port, host);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  const accepted = await promise;
  socket.destroy();
  return accepted;
}
