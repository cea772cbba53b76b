// Owns a run of `warmpath up` from the first check to the last word.
import { readFile } from "node:fs/promises";
import { WarmpathError } from "#core/errors.ts";
import { sleep, untilAborted } from "#platform/clock.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { createLog } from "#platform/log.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { openOracle } from "../library/oracle.ts";
import { driveTraffic } from "../traffic/drive.ts";
import { managementUrl, placeGateways } from "./gateways.ts";
import { createManagements, type Management, type Stats } from "./management.ts";
import type { UpOptions } from "./options.ts";
import { authority, requireFree } from "./ports.ts";
import { startFleet } from "./processes.ts";
import { openUpRegistry } from "./registry.ts";
import { buildReport, formatReport, type UpReport } from "./report.ts";
import { openState, registerLibrary } from "./state.ts";
import { createScreen, createScreenLog, type Screen } from "./status.ts";
import { formatWelcome } from "./welcome.ts";

const startDeadlineMs = 60_000;
const seed = 1;
const zipfExponent = 1;

/** Returns the exit code. */
export async function runUp(options: UpOptions, signal: AbortSignal, stack: AsyncDisposableStack): Promise<number> {
  const places = placeGateways(options, "");
  await requireFree(
    options.host,
    places.flatMap(({ httpPort, grpcPort }) => [httpPort, grpcPort]),
  );
  await requireFree(
    "127.0.0.1",
    places.map(({ adminPort }) => adminPort),
  );
  const state = await openState(options.stateFolder, stack);
  // With --json only the last line is for a program; the rest goes where people look.
  const out = options.json ? process.stderr : process.stdout;
  const screen = createScreen(out);
  const isOneTerminal = out.isTTY && process.stderr.isTTY;
  const log = stack.use(isOneTerminal ? createScreenLog(screen, () => new Date()) : createLog({ service: "up", level: "warn" }));
  const runFolder = stack.use(await openRunFolder());
  const parts = { options, state, runFolder: runFolder.path, log };
  const registry = await openUpRegistry(parts, stack);
  const models = await registerLibrary(registry.target, options.libraryFolder).catch((error: unknown) => {
    if (error instanceof WarmpathError) throw new StartupError(error.message, { cause: error });
    throw error;
  });
  const fleet = await startFleet({ ...parts, registry: registry.target }, stack);
  const management = stack.use(
    createManagements(
      places.map((place) => managementUrl(place, options.tls !== undefined)),
      fleet.managementCaFile === undefined ? undefined : await readFile(fleet.managementCaFile),
    ),
  );
  await waitUntilServing(options, fleet.ready, management, signal);

  screen.say(formatWelcome(options, models, fleet));
  const watching = new AbortController();
  const watched = watch(management, screen, AbortSignal.any([signal, watching.signal]));
  try {
    if (options.forMs === undefined) {
      await untilAborted(signal);
      return 0;
    }
    const report = await drive(options, options.forMs, fleet.caFile, management, signal);
    watching.abort();
    await watched;
    screen.say(formatReport(report));
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    return report.failed === 0 && report.wrong === 0 && report.requests > 0 ? 0 : 1;
  } finally {
    watching.abort();
    await watched;
    screen.end();
  }
}

async function waitUntilServing(
  options: UpOptions,
  ready: Promise<void>,
  management: Management,
  signal: AbortSignal,
): Promise<void> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(startDeadlineMs)]);
  const late = new StartupError(
    `it was not up within ${startDeadlineMs / 1_000} s: the logs in ${options.stateFolder}/logs say why`,
  );
  const { promise: ended, reject } = Promise.withResolvers<never>();
  deadline.addEventListener("abort", () => reject(signal.aborted ? signal.reason : late), { once: true });
  ended.catch(() => undefined);
  await Promise.race([ready, ended]);
  while (!(await management.isReady()) || (await management.linkedPods()) < options.pods) await Promise.race([sleep(20), ended]);
}

async function drive(
  options: UpOptions,
  durationMs: number,
  caFile: string | undefined,
  management: Management,
  signal: AbortSignal,
): Promise<UpReport> {
  const oracle = await openOracle(options.libraryFolder);
  const before = await readStats(management, options);
  const traffic = await driveTraffic({
    restUrl: `${options.tls === undefined ? "http" : "https"}://${authority(options.host, options.httpPort)}`,
    tls: caFile === undefined ? undefined : { ca: await readFile(caFile) },
    grpcTarget: authority(options.host, options.grpcPort),
    others: placeGateways(options, "")
      .slice(1)
      .map(({ httpPort, grpcPort }) => ({
        restUrl: `${options.tls === undefined ? "http" : "https"}://${authority(options.host, httpPort)}`,
        grpcTarget: authority(options.host, grpcPort),
      })),
    models: oracle.models,
    oracle,
    durationMs,
    concurrency: options.concurrency,
    zipfExponent,
    seed,
    signal,
  });
  return buildReport(traffic, before, await readStats(management, options));
}

async function readStats(management: Management, options: UpOptions): Promise<Stats> {
  const stats = await management.stats();
  if (stats === undefined)
    throw new StartupError(`the gateway does not answer: ${options.stateFolder}/logs/gateway.log says why`);
  return stats;
}

async function watch(management: Management, screen: Screen, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const stats = await management.stats();
    if (stats !== undefined && !signal.aborted) screen.show({ stats, gateways: management.each(), atMs: performance.now() });
    await sleep(1_000, signal).catch(() => undefined);
  }
}
