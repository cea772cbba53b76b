// Owns a gateway's management for tests, without Envoy and pods: a real registry in a file, the real book, loads, copies and
// revisions; pods are scripted. A load of an artefact whose name holds `bad` fails, one that holds `never` never ends.
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import { systemClock } from "#platform/clock.ts";
import { silentLog } from "#platform/log.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import type { PemFiles } from "#platform/tls/pems.ts";
import { createXds } from "#xds/main.ts";
import { openBook } from "../book.ts";
import { createCopies } from "../copies.ts";
import { createDecisions } from "../decisions.ts";
import { createDrops } from "../drops.ts";
import { createFeed } from "../feed.ts";
import { type CopyChange, createFleet, type Fleet } from "../fleet.ts";
import { createHome } from "../home.ts";
import { createJournal } from "../journal.ts";
import { createLoads } from "../loads.ts";
import { serveModelMesh } from "../modelmesh/server.ts";
import { createModelMesh } from "../modelmesh/service.ts";
import { createVModels } from "../modelmesh/vmodels.ts";
import { createPeers } from "../peers.ts";
import { createPlacements } from "../placements.ts";
import { createRevisions } from "../revisions.ts";
import { createRoutes } from "../routes.ts";
import { createSettled } from "../settled.ts";
import { createSlowMisses, type SlowMisses } from "../slow.ts";
import { createSuspects } from "../suspects.ts";
import { podInfo } from "../testing.ts";
import { createWishes } from "../wishes.ts";
import { createExplain } from "./explain.ts";
import { createModels, type Models } from "./models.ts";
import { listRoutes } from "./routes/list.ts";
import { pageRoutes } from "./routes/page.ts";
import { createAdmin } from "./server.ts";
import type { GatewayStats } from "./state.ts";

export interface AdminBench extends AsyncDisposable {
  readonly app: FastifyInstance;
  readonly models: Models;
  readonly fleet: Fleet;
  readonly registryFile: string;
  /** `host:port` of ModelMesh's management. */
  readonly modelmeshTarget: string;
  /** "load pod model@revision", "drop pod model@revision". */
  readonly sent: string[];
  /** What the page and `warmpath trace` tell of. */
  readonly slow: SlowMisses;
  addPod(podId: string): void;
  /** The pod loses the copy. */
  lose(podId: string, model: string, revision: string): void;
}

export interface BenchOptions {
  readonly pods?: number;
  readonly keepMs?: number;
  /** Plain text when absent. */
  readonly tls?: PemFiles;
}

export async function openAdminBench({ pods = 0, keepMs = 900_000, tls }: BenchOptions = {}): Promise<AdminBench> {
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openRunFolder()).path;
  const registryFile = join(folder, "registry.db");
  const clock = systemClock;
  const book = opening.use(
    await openBook(
      { kind: "embedded", file: registryFile },
      silentLog,
      { patienceMs: 5_000, onAway: () => undefined },
      new AbortController().signal,
    ),
  );
  const sent: string[] = [];
  const fleet = createFleet({
    onCopies(podId, changes) {
      for (const { model } of changes) routes.refresh(model);
      loads.onCopies(podId, changes);
      copies.onCopies(podId, changes);
      journal.onCopies(podId, changes);
      revisions.onCopies(changes);
    },
    onPod(podId) {
      const pod = fleet.pod(podId);
      if (pod !== undefined) xds.table.setPod(pod.info);
      copies.onPod(podId);
    },
  });
  const xds = createXds({ onAcked: () => undefined, onRefused: () => undefined }, silentLog);
  const routes = createRoutes({
    fleet,
    table: xds.table,
    findModel: (name) => book.get(name),
    patienceOf: () => 0,
    isAcked: () => true,
  });
  const placements = createPlacements(fleet, clock);
  const sendLoad = (podId: string, model: string, revision: { id: string; slot: number; storageUri: string }): void => {
    sent.push(`load ${podId} ${model}@${revision.id}`);
    const copy = { model, revision: revision.id, slot: revision.slot, sizeBytes: 1_000 };
    const tell = (change: CopyChange): void => fleet.change(podId, [change]);
    // As over a Link: never within the call.
    setImmediate(() => {
      tell({ ...copy, state: "loading" });
      if (revision.storageUri.includes("never")) return;
      if (!revision.storageUri.includes("bad")) tell({ ...copy, state: "ready" });
      else tell({ ...copy, state: "failed", failure: { kind: "model", reason: "the artefact is bad" } });
    });
  };
  const decisions = createDecisions(clock);
  const suspects = createSuspects(clock);
  const home = createHome({ gatewayId: "gateway-0", clock, onChange: () => undefined });
  const peers = opening.use(createPeers({ gatewayId: "gateway-0", log: silentLog }));
  const loads = createLoads({
    home,
    peers,
    suspects,
    decisions,
    fleet,
    routes,
    placements,
    clock,
    log: silentLog,
    sendLoad,
    cancelLoad: () => undefined,
    maxWaiting: 1_000,
    loadTimeoutMs: 60_000,
  });
  const copies = opening.use(
    createCopies({
      suspects,
      decisions,
      fleet,
      placements,
      clock,
      log: silentLog,
      findModel: (name) => book.get(name),
      isHome: () => true,
      sendLoad,
      cancelLoad: () => undefined,
      drops: createDrops({
        fleet,
        clock,
        sendDrop(podId, model, revision) {
          sent.push(`drop ${podId} ${model}@${revision}`);
          const copy = fleet.pod(podId)?.copies.get(`${model}@${revision}`);
          if (copy !== undefined) setImmediate(() => fleet.change(podId, [{ ...copy, state: "gone" }]));
        },
      }),
    }),
  );
  const journal = createJournal(clock);
  const revisions = opening.use(
    createRevisions({
      findModel: (name) => book.get(name),
      change: book.change,
      copies,
      fleet,
      isHome: () => true,
      journal,
      clock,
      log: silentLog,
      keep: { ms: keepMs, count: 3 },
    }),
  );
  book.onModel((name) => {
    routes.refresh(name);
    copies.onModel(name);
    revisions.onModel(name);
    vmodels.onModel(name);
  });
  const ticking = setInterval(() => revisions.tick(), 50);
  opening.defer(() => clearInterval(ticking));
  const settled = createSettled({ gatewayId: "gateway-0", findModel: (name) => book.get(name), routes, home, peers });
  const wishes = createWishes({ copies, home, peers, clock });
  const models = createModels({ book, fleet, routes, loads, copies, journal, settled, wishes, clock });
  const vmodels = createVModels({
    findModel: (name) => book.get(name),
    models,
    isHome: () => true,
    clock,
    log: silentLog,
  });
  const modelmesh = createModelMesh({ findModel: (name) => book.get(name), models, vmodels, log: silentLog });
  const modelmeshPort = await serveModelMesh({ adminHost: "127.0.0.1", modelmeshPort: 0, tls }, modelmesh, opening);
  const explain = createExplain((name) => book.get(name), { fleet, routes, loads, copies, journal, placements, decisions, home });
  const state = {
    isReady: () => true,
    stats: () => Promise.resolve({ models: book.count, warm: xds.table.modelCount } as GatewayStats),
    pods: () =>
      Array.from(fleet.pods(), ({ info, gauges, reachable, copies: held }) => ({
        ...info,
        ...gauges,
        reachable,
        copies: held.size,
      })),
    startDrain: (podId: string) => (fleet.pod(podId) === undefined ? ("unknown" as const) : ("started" as const)),
    gateways: () => [{ gatewayId: "gateway-0", here: true }],
    registry: () => ({ models: book.count, missing: book.missing() }),
    restoreRegistry: () => book.restore(),
  };
  const slow = createSlowMisses();
  const feed = createFeed(() => fleet);
  const app = createAdmin({
    routes: [...listRoutes({ state, models, explain }), pageRoutes({ feed, slow })],
    isLocal: true,
    log: silentLog,
    tls,
  });
  opening.defer(() => app.close());
  const addPod = (podId: string): void => fleet.attach(podInfo(podId), []);
  for (let at = 0; at < pods; at++) addPod(`pod-${at}`);
  const opened = opening.move();
  return {
    app,
    models,
    fleet,
    registryFile,
    modelmeshTarget: `127.0.0.1:${modelmeshPort}`,
    sent,
    slow,
    addPod,
    lose(podId, model, revision) {
      const copy = fleet.pod(podId)?.copies.get(`${model}@${revision}`);
      if (copy !== undefined) fleet.change(podId, [{ ...copy, state: "gone" }]);
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}
