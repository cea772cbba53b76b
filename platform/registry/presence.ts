// Owns the presence of pods and gateways: announced under a lease by whoever is present, and announced again under a new
// one when the lease was lost, for instance while the machine slept; and how others watch it.
import { sleep } from "../clock.ts";
import type { Log } from "../log.ts";
import { runFollow } from "./follow.ts";
import {
  type GatewayPresence,
  gatewayPrefix,
  nameOfKey,
  type Parsed,
  type PodPresence,
  parseGatewayRecord,
  parsePodRecord,
  podPrefix,
  putGateway,
  putPod,
} from "./records.ts";
import type { Lease, PutResult, Registry } from "./registry.ts";

const retryMs = 500;

export interface PresenceOptions {
  readonly ttlMs: number;
  readonly log: Log;
}

/** Keeps the pod announced until the signal is aborted; then it vanishes at once. */
export async function runPresence(
  registry: Registry,
  pod: PodPresence,
  options: PresenceOptions,
  signal: AbortSignal,
): Promise<void> {
  await runAnnouncement(registry, (lease) => putPod(registry, pod, lease), { pod: pod.podId }, options, signal);
}

/** Keeps the gateway announced until the signal is aborted; then it vanishes at once. */
export async function runGatewayPresence(
  registry: Registry,
  gateway: GatewayPresence,
  options: PresenceOptions,
  signal: AbortSignal,
): Promise<void> {
  await runAnnouncement(
    registry,
    (lease) => putGateway(registry, gateway, lease),
    { gateway: gateway.gatewayId },
    options,
    signal,
  );
}

async function runAnnouncement(
  registry: Registry,
  announce: (lease: Lease) => Promise<PutResult>,
  who: Readonly<Record<string, string>>,
  { ttlMs, log }: PresenceOptions,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await using lease = await registry.openLease(ttlMs);
      const put = await announce(lease);
      if (put.kind !== "ok") throw new Error(`the presence was refused: ${put.kind}`);
      await untilEither(signal, lease.ended);
      if (!signal.aborted) log.warn("the presence lease was lost; announcing again", who);
    } catch (error) {
      if (signal.aborted) return;
      log.warn("the presence could not be announced; trying again", { ...who, error });
      await sleep(retryMs, signal).catch(() => undefined);
    }
  }
}

export interface PodListener {
  /** A pod is there, or announces something else. */
  readonly onPod: (pod: PodPresence) => void;
  readonly onGone: (podId: string) => void;
}

/** Tells the living pods, then every change, until the signal is aborted. */
export async function runPodWatch(registry: Registry, listener: PodListener, log: Log, signal: AbortSignal): Promise<void> {
  const kind: Kind<PodPresence> = { prefix: podPrefix, parse: parsePodRecord, onThere: listener.onPod };
  await runPresenceWatch(registry, kind, listener.onGone, log, signal);
}

export interface GatewayListener {
  /** A gateway is there, or announces something else. */
  readonly onGateway: (gateway: GatewayPresence) => void;
  readonly onGone: (gatewayId: string) => void;
}

/** Tells the living gateways, then every change, until the signal is aborted. */
export async function runGatewayWatch(
  registry: Registry,
  listener: GatewayListener,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const { onGateway: onThere, onGone } = listener;
  const kind: Kind<GatewayPresence> = { prefix: gatewayPrefix, parse: parseGatewayRecord, onThere };
  await runPresenceWatch(registry, kind, onGone, log, signal);
}

interface Kind<T> {
  readonly prefix: string;
  readonly parse: (value: string) => Parsed<T>;
  readonly onThere: (presence: T) => void;
}

async function runPresenceWatch<T>(
  registry: Registry,
  { prefix, parse, onThere }: Kind<T>,
  onGone: (id: string) => void,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const known = new Map<string, string>();
  await runFollow(
    registry,
    prefix,
    {
      put(key, value): void {
        if (known.get(key) === value) return;
        const parsed = parse(value);
        if (parsed.kind === "refused") {
          log.error("a presence is malformed", { key, reason: parsed.reason });
          return;
        }
        known.set(key, value);
        onThere(parsed.value);
      },
      delete(key): void {
        if (known.delete(key)) onGone(nameOfKey(key, prefix));
      },
      keys: () => known.keys(),
      synced: () => undefined,
      onError: (error) => log.warn("the registry could not be read; trying again", { error }),
    },
    signal,
  );
}

async function untilEither(one: AbortSignal, other: AbortSignal): Promise<void> {
  const either = AbortSignal.any([one, other]);
  if (either.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  either.addEventListener("abort", () => resolve(), { once: true });
  await promise;
}
