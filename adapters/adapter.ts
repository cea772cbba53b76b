// Owns one pod's adapter put together: driver, pullers, holding, Link.
// Start: watch the model server -> adopt what it holds -> listen. So a gateway's first snapshot is whole, and an adapter
// that was started anew takes no route away from a model server that went on serving.
// Stop: refuse loads -> end the Links -> end what is under way.
import { randomUUID } from "node:crypto";
import { Server, type ServerCredentials } from "@grpc/grpc-js";
import { type Clock, sleep, systemClock } from "#platform/clock.ts";
import { bindServer, closeServer } from "#platform/grpc.ts";
import type { Log } from "#platform/log.ts";
import { type Agent, createAgent } from "./agent/agent.ts";
import type { HoldingGauges } from "./agent/gauges.ts";
import type { Holding, HoldingOptions } from "./agent/holding.ts";
import { createHolding } from "./agent/holding.ts";
import { type AgentWatch, noWatch } from "./agent/watch.ts";
import type { Driver, IdInjection } from "./drivers/driver.ts";
import type { KillMeter } from "./drivers/memory/kills.ts";
import { createLinkServer, type LinkServer, type PodFacts } from "./link/server.ts";
import type { Puller } from "./pull/puller.ts";
import { joinWatches } from "./spans.ts";
import { createTimesWatch } from "./times.ts";

export interface AdapterParts {
  readonly pod: Omit<PodFacts, "incarnation" | "streamsByHeader" | "loadTimeoutMs">;
  readonly holding: HoldingOptions;
  readonly driver: Driver;
  /** Tells the model server's deaths for want of memory from others; absent: that cannot be seen. */
  readonly kills?: KillMeter | undefined;
  readonly puller: Puller;
  readonly link: {
    readonly host: string;
    readonly port: number;
    /** Plain text when absent. */
    readonly credentials?: ServerCredentials | undefined;
  };
  readonly log: Log;
  /** Nothing is told when absent. */
  readonly watch?: AgentWatch | undefined;
  /** The system's when absent. */
  readonly clock?: Clock;
  /** How long the start waits for the model server; 10 s when absent. */
  readonly firstUpMs?: number;
  /** Pull and load together, unless the model server says how long; 120 s when absent. Gateways are told. */
  readonly loadTimeoutMs?: number | undefined;
  /** How often holding and model server are compared; 10 s when absent. */
  readonly compareMs?: number;
}

export interface Adapter extends AsyncDisposable {
  /**
   * Takes no load on any more, and serves until gateways have found other places for what is in use, or until patience
   * ends; then lets all go, with a moment for requests under way. Resolves when nothing is held, or nobody can help.
   */
  drain(patienceMs: number): Promise<void>;
  /** New at every start. */
  readonly incarnation: string;
  readonly linkAddress: string;
  readonly linkPort: number;
  readonly holding: Holding;
  /** Now. */
  readonly state: () => { readonly gauges: HoldingGauges; readonly serverUp: boolean; readonly gateways: number };
  /** Rejects when the adapter cannot go on; resolves once it is disposed. */
  readonly ended: Promise<void>;
}

const maxGatewayMessageBytes = 16 * 2 ** 20;
const closeGraceMs = 1_000;
const lookMs = 50;
/** Withdrawals and unloads, which wait for requests under way. */
const bleedMs = 10_000;

export async function openAdapter(parts: AdapterParts): Promise<Adapter> {
  const { driver, puller, log, clock = systemClock, loadTimeoutMs, compareMs = 10_000 } = parts;
  const incarnation = randomUUID();
  const holding = createHolding(parts.holding);
  const stop = new AbortController();
  const started: { link?: LinkServer } = {};
  const agent = createAgent({
    holding,
    driver,
    kills: parts.kills,
    puller,
    clock,
    log,
    ...(loadTimeoutMs === undefined ? {} : { loadTimeoutMs }),
    compareMs,
    watch: joinWatches(
      parts.watch ?? noWatch,
      createTimesWatch(
        () => clock.monotonicMs(),
        (times) => started.link?.tellTimes(times),
      ),
    ),
    onMessage: (message) => started.link?.tell(message),
  });
  const { streamsByHeader = false } = driver;
  const idInjections = (): readonly IdInjection[] => driver.limits?.().idInjections ?? [];
  const patienceMs = (): number | undefined => driver.limits?.().loadTimeoutMs ?? loadTimeoutMs;
  const pod = { ...parts.pod, incarnation, streamsByHeader, idInjections, loadTimeoutMs: patienceMs };
  const link = createLinkServer({ pod, agent, clock, log });
  started.link = link;
  const server = new Server({ "grpc.max_receive_message_length": maxGatewayMessageBytes });
  link.addTo(server);
  const ended = agent.run(stop.signal);
  ended.catch(() => undefined);

  const end = async (): Promise<void> => {
    agent.post({ kind: "stopping" });
    link[Symbol.dispose]();
    stop.abort(new Error("the adapter is stopping"));
    await closeServer(server, closeGraceMs);
    await ended.catch(() => undefined);
    await driver[Symbol.asyncDispose]();
  };
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => await (closing ??= end());

  try {
    await firstUp(agent.up, ended, parts.firstUpMs ?? 10_000, log);
    // Gateways that came before have not heard what the model server says of itself.
    if (!driver.alive() && driver.limits !== undefined) void agent.up.then(() => link.renew());
    const linkPort = await bindServer(server, `${parts.link.host}:${parts.link.port}`, parts.link.credentials);
    const linkAddress = `${parts.link.host}:${linkPort}`;
    const state = (): ReturnType<Adapter["state"]> => ({
      gauges: agent.gauges(),
      serverUp: driver.alive(),
      gateways: link.gateways,
    });
    const drain = (patienceMs: number): Promise<void> => emptyPod({ agent, link, stop: stop.signal, clock, log, patienceMs });
    return { incarnation, drain, linkAddress, linkPort, holding, state, ended, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function firstUp(up: Promise<void>, ended: Promise<void>, timeoutMs: number, log: Log): Promise<void> {
  const enough = new AbortController();
  const late = sleep(timeoutMs, enough.signal).then(
    () => log.warn("the model server does not answer yet; loads wait for it"),
    () => undefined,
  );
  await Promise.race([up, ended, late]);
  enough.abort();
}

interface EmptyParts {
  readonly agent: Agent;
  readonly link: LinkServer;
  readonly stop: AbortSignal;
  readonly clock: Clock;
  readonly log: Log;
  readonly patienceMs: number;
}

/** Gateways that see their Links break would take the routes away sooner than requests under way have ended. */
async function emptyPod({ agent, link, stop, clock, log, patienceMs }: EmptyParts): Promise<void> {
  const startMs = clock.monotonicMs();
  const holds = (): boolean => agent.gauges().usedBytes > 0;
  agent.post({ kind: "drain-started", patienceMs });
  log.info("the pod is being emptied", { copies: agent.gauges().ready, patienceMs });
  const untilEmpty = async (deadlineMs: number): Promise<void> => {
    while (holds() && link.gateways > 0 && clock.monotonicMs() < deadlineMs && !stop.aborted) await sleep(lookMs);
  };
  await untilEmpty(startMs + patienceMs);
  const left = agent.gauges().ready;
  if (left > 0) log.warn("copies are let go without another place", { copies: left, gateways: link.gateways });
  agent.post({ kind: "drain-ended" });
  await untilEmpty(clock.monotonicMs() + bleedMs);
}
