// Owns who may call the management API and by what certificate it is known, as the gateway's options say it.
import { isIP } from "node:net";
import { systemClock } from "#platform/clock.ts";
import { UsageError } from "#platform/lifecycle.ts";
import type { Log } from "#platform/log.ts";
import { openPems, type PemFiles } from "#platform/tls/pems.ts";
import { type Callers, readCallers } from "./callers.ts";
import { createKubeCallers, eitherCallers } from "./kubecallers.ts";

export interface CallersOptions {
  readonly adminTokens?: string | undefined;
  readonly adminAccounts?: string | undefined;
  readonly kubeApi: string;
  readonly kubeAccount: string;
}

/** Undefined: everybody who reaches the port. */
export async function openCallers(
  { adminTokens, adminAccounts, kubeApi, kubeAccount }: CallersOptions,
  log: Log,
  stack: AsyncDisposableStack,
): Promise<Callers | undefined> {
  const all: Callers[] = [];
  if (adminTokens !== undefined) all.push(await readCallers(adminTokens));
  if (adminAccounts !== undefined)
    all.push(
      stack.use(
        createKubeCallers({ api: kubeApi, accountFolder: kubeAccount, namespace: adminAccounts, clock: systemClock, log }),
      ),
    );
  return eitherCallers(all);
}

export interface AdminTlsOptions {
  readonly adminHost: string;
  readonly adminCert?: string | undefined;
  readonly adminKey?: string | undefined;
}

/** Undefined: plain text, which is told where tokens would cross a network in it. */
export async function openAdminTls(
  { adminHost, adminCert, adminKey }: AdminTlsOptions,
  log: Log,
  asksForTokens: boolean,
): Promise<PemFiles | undefined> {
  if ((adminCert === undefined) !== (adminKey === undefined)) throw new UsageError("--admin-cert and --admin-key go together");
  if (adminCert !== undefined && adminKey !== undefined) return await openPems({ certFile: adminCert, keyFile: adminKey, log });
  if (asksForTokens && !isLoopback(adminHost))
    log.warn("tokens of the management API cross the network in plain text: give --admin-cert and --admin-key", { adminHost });
  return undefined;
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
