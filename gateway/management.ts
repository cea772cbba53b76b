// Owns how what a gateway serves to people and their tools is put together: the management API with its page and metrics, and
// the management service of ModelMesh.
import { errorMessage } from "#core/errors.ts";
import { StartupError } from "#platform/lifecycle.ts";
import type { Log } from "#platform/log.ts";
import { openMetricsServer } from "#platform/metricsserver.ts";
import type { PemFiles } from "#platform/tls/pems.ts";
import type { Explain } from "./admin/explain.ts";
import type { Models } from "./admin/models.ts";
import { isLoopback, openAdminTls, openCallers } from "./admin/opencallers.ts";
import { accessRoutes } from "./admin/routes/access.ts";
import { listRoutes } from "./admin/routes/list.ts";
import { metricsRoutes } from "./admin/routes/metrics.ts";
import { pageRoutes } from "./admin/routes/page.ts";
import { quotaRoutes } from "./admin/routes/quotas.ts";
import { createAdmin } from "./admin/server.ts";
import type { GatewayState } from "./admin/state.ts";
import type { Book } from "./book.ts";
import type { Feed } from "./feed.ts";
import type { Fleet } from "./fleet.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { serveModelMesh } from "./modelmesh/server.ts";
import { createModelMesh } from "./modelmesh/service.ts";
import type { VModels } from "./modelmesh/vmodels.ts";
import type { GatewayOptions } from "./options.ts";
import type { Quotas } from "./quotas.ts";
import type { SlowMisses } from "./slow.ts";

export interface ManagementParts {
  readonly options: GatewayOptions;
  readonly log: Log;
  readonly stack: AsyncDisposableStack;
  readonly book: Book;
  readonly fleet: Fleet;
  readonly models: Models;
  readonly vmodels: VModels;
  readonly quotas: Quotas;
  readonly state: GatewayState;
  readonly explain: Explain;
  readonly feed: Feed;
  readonly slow: SlowMisses;
  readonly metrics: GatewayMetrics;
}

export interface ManagementPorts {
  readonly adminPort: number;
  /** Undefined when ModelMesh's management is not served. */
  readonly modelmeshPort: number | undefined;
  /** Undefined when metrics are told on the management port alone. */
  readonly metricsPort: number | undefined;
}

/** Listens until the stack ends. */
export async function serveManagement(parts: ManagementParts): Promise<ManagementPorts> {
  const { options, log, stack, book, fleet, models, vmodels, quotas, state, explain, feed, slow, metrics } = parts;
  const callers = await openCallers(options, log, stack);
  const tls = stack.use(await openAdminTls(options, log, callers !== undefined));
  const admin = createAdmin({
    routes: [
      ...listRoutes({ state, models, explain }),
      metricsRoutes(metrics, fleet),
      pageRoutes({ feed, slow }),
      accessRoutes(book.registry, () => Date.now()),
      quotaRoutes(book.registry, quotas),
    ],
    log,
    callers,
    isLocal: isLoopback(options.adminHost),
    tls,
  });
  await admin.listen({ host: options.adminHost, port: options.adminPort });
  stack.defer(() => admin.close());
  const modelmesh = createModelMesh({ findModel: (name) => book.get(name), models, vmodels, log, callers });
  const modelmeshPort = await serveModelMesh({ ...options, tls }, modelmesh, stack);
  const address = admin.server.address();
  const adminPort = typeof address === "object" && address !== null ? address.port : options.adminPort;
  return { adminPort, modelmeshPort, metricsPort: await serveMetrics(options, metrics, tls, log, stack) };
}

async function serveMetrics(
  { metricsHost: host, metricsPort: port }: GatewayOptions,
  metrics: GatewayMetrics,
  tls: PemFiles | undefined,
  log: Log,
  stack: AsyncDisposableStack,
): Promise<number | undefined> {
  if (port === undefined) return undefined;
  const server = await openMetricsServer({ host, port, tls }, metrics, log).catch((cause: unknown) => {
    throw new StartupError(`cannot tell metrics on ${host}:${port}: ${errorMessage(cause)}`, { cause });
  });
  return stack.use(server).port;
}
