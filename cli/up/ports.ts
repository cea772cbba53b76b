// Owns the choice and the check of ports.
import { createServer, isIPv6 } from "node:net";
import { StartupError } from "#platform/lifecycle.ts";

/** Fixed ports lie below the range that the kernel gives to outgoing connections. */
const from = 20_000;
const to = 32_000;

/** As URLs and gRPC targets write it: an IPv6 address in brackets. */
export function authority(host: string, port: number): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Why nothing can listen there, and what to do. */
export interface PortTrouble {
  readonly says: string;
  readonly advice: string;
}

const otherPorts = "end what uses it, or add --port-offset 100";
const otherHost = "choose another --host, such as 127.0.0.1 or 0.0.0.0";

const troubles: Readonly<Record<string, PortTrouble>> = {
  EADDRINUSE: { says: "is taken", advice: otherPorts },
  EACCES: { says: "is for root alone", advice: "choose one above 1023" },
  EADDRNOTAVAIL: { says: "cannot be opened: this machine has no such address", advice: otherHost },
  ENOTFOUND: { says: "cannot be opened: no address has this name", advice: otherHost },
};

/** Undefined where it is free. */
export async function findTrouble(host: string, port: number): Promise<PortTrouble | undefined> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<PortTrouble | undefined>();
  server.once("error", ({ code = "unknown" }: NodeJS.ErrnoException) =>
    resolve(troubles[code] ?? { says: `cannot be opened (${code})`, advice: "choose another host or port" }),
  );
  server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  return await promise;
}

export async function isFree(host: string, port: number): Promise<boolean> {
  return (await findTrouble(host, port)) === undefined;
}

/** Throws a StartupError that names the port and the way out. */
export async function requireFree(host: string, ports: readonly number[]): Promise<void> {
  for (const port of ports) {
    const trouble = await findTrouble(host, port);
    if (trouble !== undefined) throw new StartupError(`port ${port} on ${host} ${trouble.says}; ${trouble.advice}`);
  }
}

/** Free ports that stay the same over restarts of whoever listens there. */
export async function findFreePorts(host: string, count: number): Promise<readonly number[]> {
  const found: number[] = [];
  const first = from + ((process.pid * 37) % (to - from));
  for (let step = 0; found.length < count && step < to - from; step++) {
    const port = from + ((first - from + step) % (to - from));
    if (await isFree(host, port)) found.push(port);
  }
  if (found.length < count) throw new StartupError(`no ${count} free ports between ${from} and ${to}`);
  return found;
}
