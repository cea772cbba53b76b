// Owns the pull of an artefact that lies elsewhere: settings, source, list, cache, transfer.
// Invariants: a store is asked what there is each time, so that nobody gets from the cache what they may not read, nor what
// has changed since; only when it cannot be reached, or says nothing, what came from the same source last is given out.

import { join } from "node:path";
import { systemClock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import type { Artefact, Failure } from "../drivers/driver.ts";
import { parseAddress, showAddress } from "./address.ts";
import { type DiskCache, keyOf, type Lease } from "./cache/cache.ts";
import { fetchArtefact, noSchema, type Wish } from "./fetch.ts";
import { findLocal } from "./local.ts";
import { originOf, storeOf } from "./origin.ts";
import { baseName } from "./paths.ts";
import type { Moved, Probed, Pulled, Puller } from "./puller.ts";
import type { StorageSettings } from "./settings/settings.ts";
import { resolveSource, type Source, schemaPathOf, wantedType } from "./settings/source.ts";
import { createSilences } from "./silence.ts";
import type { Store, StoredFile } from "./store.ts";
import type { TransferOptions } from "./transfer.ts";
import { PullError } from "./trouble.ts";

export type RemoteSource = Exclude<Source, { readonly kind: "pvc" }>;

/** Opens stores, and keeps their clients while they are in use. */
export interface Stores extends AsyncDisposable {
  open(source: RemoteSource): Promise<Store>;
}

export interface RemotePullerOptions {
  readonly settings: StorageSettings;
  readonly stores: Stores;
  readonly cache: DiskCache;
  /** Where claims are mounted, each in a folder of its name. */
  readonly pvcRoot: string;
  readonly log: Log;
  readonly transfer?: TransferOptions;
  /** How long a store may be asked what it has; 8 s for a probe and 30 s for a pull when absent. */
  readonly listMs?: number;
}

interface Place {
  readonly source: Source;
  /** For people. */
  readonly what: string;
  readonly schema: { readonly path: string; readonly of: ReturnType<typeof parseAddress> } | undefined;
}

interface Plan {
  readonly store: Store;
  readonly wish: Wish;
  readonly sizeBytes: number;
  readonly sourceKey: string;
  readonly key: string;
  readonly resumable: boolean;
  readonly atMs: number;
}

/** So long what a probe has found serves the pull behind it. */
const freshMs = 10_000;
const maxPlans = 256;
/** What a store has may be asked for so long; whoever probes waits somewhat longer than that. */
const probeListMs = 8_000;
const pullListMs = 30_000;
/** An object that is replaced all the time is never got whole. */
const maxRelists = 3;

export function createRemotePuller(options: RemotePullerOptions): Puller {
  const { settings, stores, cache, pvcRoot, log } = options;
  const plans = new Map<string, Plan>();
  const silences = createSilences({ clock: systemClock });
  let anonymous = 0;

  const locate = async ({ storageUri, storageKey, storageParameters = {}, schemaPath }: Artefact): Promise<Place> => {
    const parsed = parseAddress(storageUri);
    if (parsed.kind === "refused") throw new PullError("unsuitable", parsed.reason);
    const { address } = parsed;
    if (address.kind === "file") throw new PullError("unsuitable", "a file address is not fetched from elsewhere");
    const type = wantedType(address, storageParameters);
    const found = type === "unknown" ? { kind: "none" as const } : await settings.find({ key: storageKey, type });
    if (found.kind === "bad") throw new PullError("settings", found.reason);
    const entry = found.kind === "found" ? found : undefined;
    const resolved = resolveSource({ address, parameters: storageParameters, entry });
    if (resolved.kind === "refused") throw new PullError(resolved.trouble, resolved.reason);
    const schema = schemaPath === undefined ? undefined : { path: schemaPath, of: parsed };
    return { source: resolved.source, what: showAddress(address), schema };
  };

  const list = async (
    place: Place,
    source: RemoteSource,
    sourceKey: string,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<Plan> => {
    const question = { store: keyOf([storeOf(source)]), what: place.what, timeoutMs };
    return await silences.ask(question, signal, (ended) => listNow(place, source, sourceKey, ended));
  };

  const listNow = async (place: Place, source: RemoteSource, sourceKey: string, signal: AbortSignal): Promise<Plan> => {
    const store = await stores.open(source);
    const listing = await store.list(signal);
    const { schema, inside } = await findSchema(place, store, listing, signal);
    const files = schema === undefined ? listing.files : [...listing.files, schema];
    const versioned = files.every(({ version, digest }) => version !== "" || digest !== undefined);
    const facts = files.map(({ path, ref, sizeBytes, version, digest }) => [
      path,
      ref,
      sizeBytes ?? -1,
      version,
      digest?.hex ?? "",
    ]);
    const wish: Wish = { listing, schema, schemaInside: inside };
    const key = versioned
      ? keyOf([originOf(source), listing.name, listing.single, inside ?? "", facts])
      : // Nothing tells it from what it may be next time.
        keyOf([sourceKey, ++anonymous, process.pid, Date.now()]);
    const sizeBytes = files.reduce((sum, file) => sum + (file.sizeBytes ?? 0), 0);
    return { store, wish, sizeBytes, sourceKey, key, resumable: versioned, atMs: performance.now() };
  };

  const take = async (place: Place, source: RemoteSource, signal: AbortSignal, moved: Moved | undefined): Promise<Lease> => {
    const sourceKey = keyOf([source, place.schema?.path ?? ""]);
    let plan = takePlan(plans, sourceKey);
    for (let relists = 0; ; relists++) {
      try {
        plan ??= await list(place, source, sourceKey, options.listMs ?? pullListMs, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof PullError) || error.trouble !== "unreachable") throw error;
        const last = await cache.takeLast(sourceKey, signal);
        if (last === undefined) throw error;
        log.warn("the store cannot be reached: the artefact on the disk is used", {
          artefact: place.what,
          reason: error.message,
        });
        return last;
      }
      const { store, wish, key, sizeBytes, resumable } = plan;
      try {
        return await cache.take(
          {
            key,
            sourceKey,
            sizeBytes,
            resumable,
            fill: (staging, ended) => fetchArtefact(store, wish, staging, { ...options.transfer, moved }, ended),
          },
          signal,
        );
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof PullError) || error.trouble !== "changed" || relists >= maxRelists) throw error;
        plan = undefined;
      }
    }
  };

  const local = async (place: Place, source: Extract<Source, { readonly kind: "pvc" }>, signal: AbortSignal) => {
    const root = join(pvcRoot, source.claim);
    const schema =
      place.schema === undefined
        ? {}
        : {
            schemaPath:
              place.schema.of.kind === "ok" && place.schema.of.address.kind === "storage"
                ? join(root, place.schema.path)
                : place.schema.path,
          };
    const rootName = `the claim ${source.claim}`;
    const absent = `${rootName} is not mounted in this pod: it is not there, or the storage settings do not list it and models may not name others (allowAnyPVC)`;
    return await findLocal({ root, rootName, absent, path: join(root, source.path), ...schema }, signal);
  };

  return {
    async probe(artefact, signal): Promise<Probed> {
      try {
        const place = await locate(artefact);
        const { source } = place;
        if (source.kind === "pvc") return await local(place, source, signal);
        const sourceKey = keyOf([source, place.schema?.path ?? ""]);
        const plan = await list(place, source, sourceKey, options.listMs ?? probeListMs, signal).catch(async (error: unknown) => {
          signal.throwIfAborted();
          if (!(error instanceof PullError) || error.trouble !== "unreachable") throw error;
          using last = leased(await cache.takeLast(sourceKey, signal));
          if (last.lease === undefined) throw error;
          return { sizeBytes: bytesOf(last.lease) };
        });
        if ("store" in plan) keepPlan(plans, plan);
        return { kind: "ok", sizeBytes: plan.sizeBytes };
      } catch (error) {
        return failureOf(error, signal);
      }
    },
    async pull(artefact, signal, moved): Promise<Pulled | Failure> {
      try {
        const place = await locate(artefact);
        const { source } = place;
        if (source.kind === "pvc") {
          const found = await local(place, source, signal);
          return found.kind === "ok" ? { ...found, release: async () => undefined } : found;
        }
        const lease = await take(place, source, signal, moved);
        const { name, schema } = lease.manifest;
        return {
          kind: "ok",
          path: join(lease.folder, name),
          ...(schema === undefined ? {} : { schemaPath: join(lease.folder, schema) }),
          sizeBytes: bytesOf(lease),
          release: async () => lease.release(),
        };
      } catch (error) {
        return failureOf(error, signal);
      }
    },
  };
}

async function findSchema(
  place: Place,
  store: Store,
  listing: Wish["listing"],
  signal: AbortSignal,
): Promise<{ readonly schema?: StoredFile; readonly inside?: string }> {
  const { schema, source } = place;
  if (schema === undefined || schema.of.kind !== "ok") return {};
  const { address } = schema.of;
  const archived = listing.files.some(({ archive }) => archive !== undefined);
  // What is fetched anyway is not fetched twice.
  if (address.kind !== "storage" && !listing.single && (archived || listing.files.some(({ path }) => path === schema.path))) {
    return { inside: schema.path };
  }
  const base = source.kind === "http" ? { kind: "storage" as const, path: "" } : address;
  const path = source.kind === "http" ? besideUrl(source.url, schema.path) : schemaPathOf(base, schema.path, listing.single);
  if (path === undefined) throw noSchema();
  const file = await store.find(path, signal).catch((error: unknown) => {
    if (error instanceof PullError && error.trouble === "absent") throw noSchema();
    throw error;
  });
  return { schema: { ...file, path: baseName(schema.path) } };
}

function besideUrl(url: string, schemaPath: string): string | undefined {
  try {
    const folder = decodeURIComponent(new URL(url).pathname).split("/").slice(1, -1).join("/");
    return schemaPathOf({ kind: "storage", path: "" }, folder === "" ? schemaPath : `${folder}/${schemaPath}`, true);
  } catch {
    return undefined;
  }
}

function takePlan(plans: Map<string, Plan>, sourceKey: string): Plan | undefined {
  const plan = plans.get(sourceKey);
  plans.delete(sourceKey);
  return plan !== undefined && performance.now() - plan.atMs <= freshMs ? plan : undefined;
}

function keepPlan(plans: Map<string, Plan>, plan: Plan): void {
  plans.delete(plan.sourceKey);
  plans.set(plan.sourceKey, plan);
  const [oldest] = plans.keys();
  if (plans.size > maxPlans && oldest !== undefined) plans.delete(oldest);
}

function leased(lease: Lease | undefined): { readonly lease: Lease | undefined } & Disposable {
  return { lease, [Symbol.dispose]: () => lease?.release() };
}

function bytesOf({ manifest }: Lease): number {
  return manifest.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function failureOf(error: unknown, signal: AbortSignal): Failure {
  if (signal.aborted) throw signal.reason;
  if (error instanceof PullError) return error.toFailure();
  throw error;
}
