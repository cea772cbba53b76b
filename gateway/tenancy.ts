// Owns how what a gateway knows of its callers is opened: which of them may call which models, and how much each may take.
import { readAuthFile } from "#envoy/authfile.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import type { RouteTable } from "#xds/main.ts";
import { type Access, openAccess, openToAll } from "./access.ts";
import type { Book } from "./book.ts";
import type { Fleet } from "./fleet.ts";
import type { Links } from "./links.ts";
import type { GatewayOptions } from "./options.ts";
import { openQuotas, type Quotas, type QuotasParts } from "./quotas.ts";

export interface TenancyParts extends Pick<Links, "sendOwners" | "sendTrim"> {
  readonly options: GatewayOptions;
  readonly book: Book;
  readonly table: RouteTable;
  readonly fleet: Fleet;
  readonly isHome: (tenant: string) => boolean;
  readonly onOver: QuotasParts["onOver"];
  readonly clock: Clock;
  readonly log: Log;
}

export interface Tenancy {
  readonly access: Access;
  readonly quotas: Quotas;
}

/** Both end with the stack. */
export async function openTenancy(parts: TenancyParts, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Tenancy> {
  const { options, book, table, fleet, clock, log } = parts;
  const findModel: Book["get"] = (name) => book.get(name);
  const access = await (async () => {
    if (options.auth === undefined) return openToAll;
    const tokens = (await readAuthFile(options.auth)).jwt.length > 0;
    return stack.use(await openAccess({ registry: book.registry, table, findModel, tokens, log }, signal));
  })();
  const { sendOwners, sendTrim, isHome, onOver } = parts;
  const auth = options.auth !== undefined;
  const quotaParts = { registry: book.registry, table, fleet, findModel, sendOwners, sendTrim, isHome, onOver, clock, log, auth };
  return { access, quotas: stack.use(await openQuotas(quotaParts, signal)) };
}
