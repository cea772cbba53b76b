// Owns the performing of one load: pull, turn, load, measure; and whose fault it is when that fails.
//
// Invariants: the model server is asked when it is the load's turn, which the holding says. A result that comes from before
// the model server was lost never counts as success. Its steps follow on one another: no time of it belongs to none. A load
// that may have reached the model server and failed is unloaded there. A model server that the kernel killed for want of
// memory was not killed by a bad model: there was no room.
import { errorMessage } from "#core/errors.ts";
import { type Clock, untilAborted } from "#platform/clock.ts";
import { openDeadline } from "#platform/deadline.ts";
import type { Log } from "#platform/log.ts";
import type { Driver, Failure, Loaded } from "../drivers/driver.ts";
import type { KillMeter } from "../drivers/memory/kills.ts";
import type { Pulled, Puller } from "../pull/puller.ts";
import type { HoldingEffect, HoldingEvent } from "./events.ts";
import type { KeptArtefacts } from "./kept.ts";
import type { Life, Lives } from "./lives.ts";
import { type ProgressOptions, watchProgress } from "./progress.ts";
import type { Turns } from "./turns.ts";
import type { AgentWatch, LoadFacts, LoadWatch } from "./watch.ts";

type LoadEffect = Extract<HoldingEffect, { kind: "load" }>;

export interface LoaderParts {
  readonly driver: Driver;
  readonly kills?: KillMeter | undefined;
  readonly puller: Puller;
  readonly clock: Clock;
  readonly log: Log;
  readonly watch: AgentWatch;
  readonly lives: Lives;
  readonly turns: Turns;
  /** Told of loads that stand still, or move again. */
  readonly onStall: (key: string, stalled: boolean) => void;
  readonly progress?: Omit<ProgressOptions, "onStall"> | undefined;
  readonly artefacts: KeptArtefacts;
  readonly stop: AbortSignal;
  /** Unless the model server says how long. */
  readonly loadTimeoutMs: number;
  /** What the whole model server takes, where that can be seen. */
  readonly memoryBytes: () => Promise<number | undefined>;
}

export interface Loader {
  load(effect: LoadEffect): Promise<Extract<HoldingEvent, { kind: "loaded" | "load-failed" }>>;
}

/** A model server that died is known to have done so within this. */
const noticeMs = 1_000;
/** Somebody waits to hear of the failure. */
const cleanUpTimeoutMs = 5_000;
const killed = "the model server was killed for want of memory while it loaded this";

export function createLoader(parts: LoaderParts): Loader {
  const { driver, puller, clock, log, watch, lives, artefacts, stop } = parts;

  /** A dead model server breaks its connections before the watch has looked. True when it is lost by now. */
  const isLost = async (life: AbortSignal): Promise<boolean> => {
    using quick = openDeadline(noticeMs, stop, life);
    const listed = await driver.list(quick.signal).catch(() => undefined);
    if (listed?.kind === "ok" || life.aborted || stop.aborted) return life.aborted;
    using notice = openDeadline(noticeMs, stop, life);
    await untilAborted(notice.signal);
    return life.aborted;
  };

  const pull = async (key: string, revision: LoadEffect["revision"], signal: AbortSignal): Promise<Pulled | Failure> => {
    using progress = watchProgress({ ...parts.progress, onStall: (stalled) => parts.onStall(key, stalled) });
    return await puller
      .pull(revision, signal, (bytes) => progress.moved(bytes))
      .catch((error: unknown) => failedBy("storage", error));
  };

  const pullAndLoad = async (
    { key, serverName, revision, reservedBytes }: LoadEffect,
    life: Life,
    loadWatch: LoadWatch,
    marked: Promise<unknown> | undefined,
    signal: AbortSignal,
  ): Promise<Loaded | Failure> => {
    const { format, formatVersion } = revision;
    const pullEnds = loadWatch.step("pull");
    const pulled = await pull(key, revision, signal);
    pullEnds(pulled.kind === "failed" ? pulled.reason : undefined);
    if (pulled.kind === "failed") return pulled;
    let kept = false;
    try {
      const turnEnds = loadWatch.step("turn");
      await Promise.all([parts.turns.wait(key, signal), marked]).finally(() => turnEnds());
      const serverEnds = loadWatch.step("server");
      life.loading.add(key);
      const loaded = await driver
        .load({
          serverName,
          revision: revision.id,
          path: pulled.path,
          artefact: revision,
          format,
          ...(formatVersion === undefined ? {} : { formatVersion }),
          ...(pulled.schemaPath === undefined ? {} : { schemaPath: pulled.schemaPath }),
          expectedBytes: reservedBytes,
          signal,
        })
        .catch((error: unknown) => failedBy("pod", error));
      serverEnds(loaded.kind === "failed" ? loaded.reason : undefined);
      if (loaded.kind === "failed" && (loaded.failure === "pod" || signal.aborted)) {
        using patience = openDeadline(cleanUpTimeoutMs, life.signal, stop);
        if (!patience.signal.aborted) await driver.unload(serverName, patience.signal).catch(() => undefined);
      }
      if (loaded.kind === "ok" && driver.keepsArtefact && !life.signal.aborted) {
        kept = true;
        await artefacts.keep(serverName, () => pulled.release());
      }
      return loaded;
    } finally {
      if (!kept) await pulled.release();
    }
  };

  return {
    async load(effect): ReturnType<Loader["load"]> {
      const { key, reservedBytes } = effect;
      const life = lives.current;
      using deadline = openDeadline(driver.limits?.().loadTimeoutMs ?? parts.loadTimeoutMs, stop, life.signal);
      const startMs = clock.monotonicMs();
      const loadWatch = watch.loadStarts(factsOf(effect));
      // Beside the pull: it counts once the model server is asked.
      const marked = parts.kills?.mark();
      const result = await pullAndLoad(effect, life, loadWatch, marked, deadline.signal).catch((error: unknown) =>
        failedBy("pod", error),
      );
      await using kills = await marked;
      const reached = life.loading.has(key);
      const isOver = life.signal.aborted;
      const isPods = reached && result.kind === "failed" && result.failure === "pod";
      const lost = isOver || (isPods && (await isLost(life.signal)));
      life.loading.delete(key);
      const wentWell = result.kind === "ok" && !lost;
      if (wentWell) {
        const { sizeBytes, measured } = result;
        const measureEnds = driver.memoryBytes === undefined ? undefined : loadWatch.step("measure");
        const memoryBytes = await parts.memoryBytes();
        measureEnds?.();
        // Else it was lost while that was looked up.
        if (!life.signal.aborted) {
          loadWatch.end({ kind: "ok", sizeBytes });
          log.debug("a copy is loaded", { key, sizeBytes, reservedBytes, loadMs: clock.monotonicMs() - startMs });
          return { kind: "loaded", key, sizeBytes, measured, memoryBytes };
        }
      }
      const failed = result.kind === "ok" ? failedBy("pod", life.signal.reason) : result;
      const suspects = reached && life.signal.aborted ? life.suspects : undefined;
      const wantsMemory = reached && (failed.failure === "pod" || suspects !== undefined) && (await kills?.killed()) === true;
      const { failure, reason }: Failure = wantsMemory ? { kind: "failed", failure: "capacity", reason: killed } : failed;
      loadWatch.end({ kind: "failed", failure, reason });
      log.warn("a load failed", { key, failure, reason });
      const blamed = suspects === undefined || wantsMemory ? failure : "server-died";
      return { kind: "load-failed", key, failure: blamed, reason, suspects };
    },
  };
}

function factsOf(effect: LoadEffect): LoadFacts {
  const { key, revision, loadClass, queuedMs, reservedBytes, traceparent } = effect;
  // A key is the model, an @ and the revision.
  const model = key.slice(0, -revision.id.length - 1);
  return { model, revision: revision.id, loadClass, queuedMs, reservedBytes, traceparent };
}

export function failedBy(failure: Failure["failure"], error: unknown): Failure {
  return { kind: "failed", failure, reason: errorMessage(error) };
}
