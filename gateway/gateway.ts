// Owns how the gateway's parts are put together. Order of start: registry -> every present pod linked (or given time
// enough) -> the socket on which Envoy finds xDS, ext_proc and the log sink. So an Envoy that outlived its gateway is
// never given a table smaller than what the pods hold.
import type { Revision } from "#core/model.ts";
import { createPatiences } from "#core/patience.ts";
import { createHistogram } from "#core/samples.ts";
import { sleep, systemClock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { createProcessMetrics } from "#platform/processmetrics.ts";
import { createTracer } from "#platform/telemetry.ts";
import { openPeerIdentity } from "#platform/tls/identity.ts";
import { createXds, sweepMs } from "#xds/main.ts";
import { serverMetadata } from "./about.ts";
import { createAbsences } from "./absences.ts";
import { createExplain } from "./admin/explain.ts";
import { createModels } from "./admin/models.ts";
import { createGatewayState } from "./admin/state.ts";
import { createDecisions } from "./decisions.ts";
import { createEnvoyHealth } from "./envoyhealth.ts";
import { openEnvoyStats } from "./envoystats.ts";
import { createFeed, tickMs } from "./feed.ts";
import { copyKey, createFleet } from "./fleet.ts";
import { createHome } from "./home.ts";
import { createJournal } from "./journal.ts";
import { createLinks, type LoadAsk } from "./links.ts";
import { createLoads } from "./loads.ts";
import { type ManagementPorts, serveManagement } from "./management.ts";
import { collectGateway, createGatewayMetrics, createModelCounter, resourceTypeOf } from "./metrics.ts";
import { createVModels } from "./modelmesh/vmodels.ts";
import type { GatewayOptions } from "./options.ts";
import { createPeers } from "./peers.ts";
import { createPlacements } from "./placements.ts";
import { createRates } from "./rates.ts";
import { createReports } from "./reports.ts";
import { createRequests } from "./requests.ts";
import { createRoutes } from "./routes.ts";
import { ticksPerSecond } from "./scaler.ts";
import { serverCalls } from "./servercalls.ts";
import { serveEnvoy, servePeers } from "./servers.ts";
import { createSettled } from "./settled.ts";
import { createSleepers } from "./sleepers.ts";
import { createSlowMisses } from "./slow.ts";
import { createMissSpans } from "./spans.ts";
import { createSuspects } from "./suspects.ts";
import { openTenancy } from "./tenancy.ts";
import { createUpkeep } from "./upkeep.ts";
import { createUsage } from "./usage.ts";
import { openBookOrWait } from "./waiting.ts";
import { createWishes } from "./wishes.ts";
import { createWithdrawn } from "./withdraw.ts";

export interface Gateway extends ManagementPorts {
  /** Requests that wait for their models now. */
  readonly waiting: number;
  readonly envoyConnected: boolean;
  /** From now on it says that it is not ready, and clients are asked to go elsewhere; what it has goes on. */
  drain(): void;
}

/** How long a gateway waits at its start for pods that do not answer. */
const linkPatienceMs = 3_000;
const usageMs = 500;
const fillingMs = 500;

/** Starts a gateway whose parts end with the stack. */
export async function startGateway(
  options: GatewayOptions,
  log: Log,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<Gateway> {
  const clock = systemClock;
  const decisions = createDecisions(clock);
  const suspects = createSuspects(clock, (model) => routes.refresh(model));
  const rates = createRates(clock);
  const { gatewayId: instance, otlpEndpoint: endpoint, otlpProtocol: protocol, traceShare: share } = options;
  const { tracer } = stack.use(await createTracer({ service: "warmpath-gateway", instance, endpoint, protocol, share }));
  const slow = createSlowMisses();
  const spans = createMissSpans({ tracer, clock, onRecord: (record) => slow.add(record) });
  const identity = stack.use(await openPeerIdentity(options, log));
  let ready = false;
  let draining = false;
  const waits = createHistogram();
  const metrics = createGatewayMetrics({ log, aliases: options.modelmeshMetrics, more: createProcessMetrics() });
  const modelCounter = createModelCounter(metrics, options.modelMetrics);

  const xds = createXds(
    {
      onAcked(typeUrl, names, tookMs) {
        metrics.of.ackSeconds.record({ type: resourceTypeOf(typeUrl) }, tookMs / 1_000);
        routes.onAcked(names);
      },
      onRefused(typeUrl, names, message) {
        log.error("envoy refuses a resource", { typeUrl, names, message });
        metrics.of.refusedResources.add({ type: resourceTypeOf(typeUrl) }, names.length);
      },
      mayKeep: (model, principal) => access.mayKeep(model, principal),
    },
    log,
    { auth: options.auth !== undefined },
  );
  const feed = createFeed(() => fleet);
  const patiences = createPatiences({ maxModels: 10_000, onChange: (model) => routes.refresh(model) });
  const fleet = createFleet({
    onCopies(podId, changes) {
      for (const { model } of changes) routes.refresh(model);
      suspects.onCopies(podId, changes);
      loads.onCopies(podId, changes);
      journal.onCopies(podId, changes);
      upkeep.onCopies(podId, changes);
      quotas.onCopies(podId, changes);
      feed.onCopies(podId, changes);
    },
    onPod(podId) {
      const pod = fleet.pod(podId);
      if (pod === undefined) xds.table.removePod(podId);
      else if (xds.table.setPod(pod.info)) for (const { model } of pod.copies.values()) routes.refresh(model);
      if (pod?.reachable !== true) loads.onUnreachable(podId);
      upkeep.onPod(podId);
    },
  });
  const book = stack.use(await openBookOrWait(options, log, signal));
  const { access, quotas } = await openTenancy(
    {
      options,
      book,
      table: xds.table,
      fleet,
      sendOwners: (podId, owners) => links.sendOwners(podId, owners),
      sendTrim: (podId, tenant, bytes) => links.sendTrim(podId, tenant, bytes),
      isHome: (tenant) => home.isHere(tenant),
      onOver: (quota) => metrics.of.quotaRefusals.add({ quota }),
      clock,
      log,
    },
    signal,
    stack,
  );
  const routes = createRoutes({
    fleet,
    table: xds.table,
    findModel: (name) => book.get(name),
    patienceOf: (model) => patiences.of(model),
    isKeptOff: (model, revision) => suspects.check(copyKey({ model, revision })) !== undefined,
    isAcked: (ref) => xds.isAcked(ref),
  });
  book.onModel((name) => {
    routes.refresh(name);
    access.onModel(name);
    quotas.onModel(name);
    upkeep.onModel(name);
    vmodels.onModel(name);
    if (book.get(name) === undefined) {
      loads.onUnregistered(name);
      modelCounter.forget(name);
      patiences.forget(name);
    }
  });
  const links = stack.use(
    createLinks({
      gatewayId: options.gatewayId,
      identity,
      fleet,
      clock,
      log,
      onRefused(podId, model, revision, code, reason) {
        if (code === "quota-exceeded") quotas.onRefused();
        loads.onRefused(podId, model, revision, code, reason);
        upkeep.onRefused(podId, model, revision, code, reason);
      },
      onLoadTimes: (podId, times) => loads.onLoadTimes(podId, times),
      onLinked: (podId) => quotas.onLinked(podId),
      onServerDied: (podId) => suspects.onServerDied(podId),
      onBreak: () => metrics.of.linkBreaks.add({}),
      onDraining: (podId, listed) => upkeep.onDraining(podId, listed),
      isServed(name, revision) {
        const model = book.get(name);
        if (model === undefined) return false;
        return model.active === revision || model.split?.some((share) => share.revision === revision) === true;
      },
      withdrawn: createWithdrawn(routes, (ms) => metrics.of.withdrawSeconds.record({}, ms / 1_000)),
    }),
  );
  const placements = createPlacements(fleet, clock, {
    onPlaced: (result) => metrics.of.placements.add({ result }),
    avoided: (model, revision) => quotas.avoided(model, revision),
  });
  const sendLoad = (podId: string, model: string, revision: Revision, ask: LoadAsk): void =>
    links.sendLoad(podId, model, revision, { ...ask, ...quotas.termsOf(podId, model) });
  const peers = stack.use(createPeers({ gatewayId: options.gatewayId, log, identity }));
  const home = createHome({
    gatewayId: options.gatewayId,
    clock,
    onChange(member, there) {
      log.info(there ? "a gateway is there" : "a gateway left", { gatewayId: member.gatewayId });
      if (!there) peers.forget(member.gatewayId);
      upkeep.onMembers();
    },
  });
  const settled = createSettled({ gatewayId: options.gatewayId, findModel: (name) => book.get(name), routes, home, peers });
  const reports = createReports({ home, peers, rates, clock });
  const sleepers = createSleepers({ fleet, clock, log, wake: (runtime) => book.wake(runtime) });
  book.watchRuntimes((name, record) => sleepers.set(name, record));
  const loads = createLoads({
    fleet,
    routes,
    asked: (model, revision) => upkeep.copies.asked(model, revision),
    awaits: (revision) => links.awaits(revision.runtime) || sleepers.awaits(revision),
    clock,
    log,
    placements,
    home,
    peers,
    suspects,
    decisions,
    rateOf: (model) => rates.rateOf(model),
    onMissed: (model) => reports.missed(model),
    sendLoad,
    cancelLoad: (podId, model, revision) => links.cancelLoad(podId, model, revision),
    quotas,
    maxWaiting: options.maxWaiting,
    loadTimeoutMs: options.loadTimeoutMs,
  });
  const journal = createJournal(clock);
  const upkeep = stack.use(
    createUpkeep({
      options,
      fleet,
      placements,
      clock,
      log,
      findModel: (name) => book.get(name),
      matching: (pattern) => book.matching(pattern),
      change: book.change,
      suspects,
      decisions,
      journal,
      rates,
      isFlying: (model, revision) => loads.isFlying(model, revision),
      avoided: (model, revision) => quotas.avoided(model, revision),
      isHome: (model) => home.isHere(model),
      wishedOf: (model, revision) => wishes.wished(model, revision),
      sendLoad,
      cancelLoad: (podId, model, revision) => links.cancelLoad(podId, model, revision),
      sendDrop: (podId, model, revision) => links.sendDrop(podId, model, revision),
    }),
  );
  const { copies } = upkeep;
  const wishes = createWishes({ copies, home, peers, clock });
  const models = createModels({ book, fleet, routes, loads, copies, journal, settled, wishes, clock });
  const vmodels = createVModels({
    findModel: (name) => book.get(name),
    models,
    isHome: (model) => home.isHere(model),
    clock,
    log,
  });
  const { processor, shares, listIndex } = createRequests(
    {
      options,
      book,
      fleet,
      loads,
      routes,
      suspects,
      table: xds.table,
      links,
      patiences,
      quotas,
      access,
      journal,
      metrics,
      waits,
      spans,
      isReady: () => ready,
      clock,
      log,
    },
    signal,
  );
  const absences = createAbsences({ fleet, verify: (podId, model, revision) => links.verify(podId, model, revision) });
  const usage = createUsage(clock, ({ model, requests, tookMs, isAbsence }) => {
    modelCounter.add(model, requests);
    if (tookMs !== undefined) patiences.took(model, tookMs, clock.monotonicMs());
    if (isAbsence) void absences.look(model);
  });
  const { envoyAdmin, linger } = options;
  const envoy = envoyAdmin === undefined ? undefined : stack.use(openEnvoyStats(envoyAdmin));
  const health = envoyAdmin === undefined || linger === 0 ? undefined : stack.use(createEnvoyHealth(envoyAdmin, log));
  // Of one that a gateway before this one has told to send clients away.
  health?.set("ok");

  book.watchPods((podId, presence) => (presence === undefined ? links.setAbsent(podId) : links.setPresent(presence)));
  const present = await book.listPods();
  await waitForLinks(() => present.every((podId) => links.isLinked(podId)), signal);

  await servePeers({
    options,
    stack,
    book,
    home,
    identity,
    service: {
      spans,
      findModel: (name) => book.get(name),
      loads,
      clock,
      readyPods: (model, revision) => fleet.readyPods(model, revision),
      onUse(uses) {
        rates.add(uses);
        for (const { model, answered } of uses) suspects.onAnswered(model, answered);
      },
      onReturned: (copy, podIds) => suspects.onReturned(copy, podIds),
      wish: (model, revision, ask) => wishes.loadHere(model, revision, ask),
      isSettled: (model, active) => settled.here(model, active),
      maxWaitMs: options.maxParkMs,
    },
  });
  const about = serverCalls(() => ready, listIndex);
  await serveEnvoy({ socket: options.socket, stack, xds, processor, usage, about });
  every(usageMs, stack, () => {
    const uses = usage.take();
    for (const [model, { answered }] of uses) suspects.onAnswered(model, answered);
    links.sendUsage(uses);
    feed.onUse(uses);
    shares.onUsed(uses.keys());
    reports.send(uses);
  });
  every(1_000, stack, () => upkeep.tick());
  every(fillingMs, stack, () => upkeep.fill());
  every(1_000 / ticksPerSecond, stack, () => upkeep.scale());
  every(1_000, stack, () => suspects.tick());
  every(1_000, stack, () => xds.table.setUsageSample(usage.adjust()));
  every(sweepMs, stack, () => xds.sweep());

  collectGateway(metrics, {
    version: serverMetadata.version,
    fleet,
    envoy,
    read: () => ({
      ready,
      envoyConnected: xds.connected,
      models: book.count,
      warmModels: xds.table.modelCount,
      placementSets: xds.table.setCount,
      parked: loads.waiting,
      flights: loads.flights,
      usageShare: usage.share,
      hits: usage.latency,
      waited: usage.waited,
    }),
  });
  const state = createGatewayState({
    book,
    fleet,
    loads,
    usage,
    counts: processor.counts,
    waits,
    envoy,
    table: xds.table,
    isReady: () => ready && !draining && xds.connected,
    gatewayId: options.gatewayId,
    home,
    startDrain: (podId) => links.startDrain(podId),
  });
  const explain = createExplain((name) => book.get(name), { fleet, routes, loads, copies, journal, placements, decisions, home });
  for (const name of upkeep.resume()) vmodels.onModel(name);
  every(1_000, stack, () => quotas.tick());
  every(tickMs, stack, () => {
    feed.tick(() => state.stats()).catch((error: unknown) => log.error("the page could not be told what goes on", { error }));
  });
  const ports = await serveManagement({
    options,
    log,
    stack,
    book,
    fleet,
    models,
    vmodels,
    quotas,
    state,
    explain,
    feed,
    slow,
    metrics,
  });
  ready = true;
  return {
    ...ports,
    get waiting() {
      return loads.waiting;
    },
    get envoyConnected() {
      return xds.connected;
    },
    drain() {
      draining = true;
      health?.set("fail");
    },
  };
}

async function waitForLinks(complete: () => boolean, signal: AbortSignal): Promise<void> {
  const deadlineMs = systemClock.monotonicMs() + linkPatienceMs;
  while (!complete() && systemClock.monotonicMs() < deadlineMs) await sleep(10, signal);
}

function every(ms: number, stack: AsyncDisposableStack, work: () => void): void {
  const timer = setInterval(work, ms);
  stack.defer(() => clearInterval(timer));
}
