// Owns who may call the management API, as the gateway's options say it.
import { systemClock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
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
