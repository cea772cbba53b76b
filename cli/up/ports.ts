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

export async function isFree(host: string, port: number): Promise<boolean> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<boolean>();
  server.once("error", () => resolve(false));
  server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  return promise;
}

/** Throws a StartupError that names the port and the way out. */
export async function requireFree(host: string, ports: readonly number[]): Promise<void> {
  for (const port of ports) {
    if (!(await isFree(host, port))) {
      throw new StartupError(`port ${port} on ${host} is taken or not allowed: end what uses it, or add --port-offset 100`);
    }
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
