// Owns the Link's server side: one stream per gateway, from Hello to its end.
//
//   opened --Hello--> attached: Pod, Snapshot parts, then Deltas --end, error, silence, replaced--> detached
//
// Invariants: one stream per gateway id, the newest; what a slow gateway has not read is conflated in its outbox, never
// piled up; nothing a gateway sends throws: what cannot be is refused or left out; a silent gateway is let go, so that
// withdrawals do not wait for it.
import type { Server, ServerDuplexStream } from "@grpc/grpc-js";
import { parseModelName, serverName } from "#core/model.ts";
import type { Clock } from "#platform/clock.ts";
import { addService } from "#platform/grpc.ts";
import type { Log } from "#platform/log.ts";
import {
  type GatewayMessage,
  Link,
  type Load,
  LoadRefused_Why,
  type PodMessage,
  type Verify,
} from "#proto/gen/warmpath/link/v1/link_pb.ts";
import type { Agent, AgentMessage } from "../agent/agent.ts";
import type { LoadTimes } from "../agent/watch.ts";
import type { IdInjection } from "../drivers/driver.ts";
import {
  buildCopy,
  buildGauges,
  buildMessage,
  buildTimes,
  parseKey,
  parseLoad,
  parseOwners,
  parseUsage,
  refusals,
  type ToGateway,
} from "./messages.ts";
import { createOutbox, maxCopiesPerMessage } from "./outbox.ts";

export interface PodFacts {
  readonly podId: string;
  readonly incarnation: string;
  readonly runtime: string;
  readonly restAddress: string;
  readonly grpcAddress: string;
  /** The model server speaks V2 over gRPC alone. */
  readonly restByGrpc?: boolean | undefined;
  /** As its driver says. */
  readonly streamsByHeader: boolean;
  readonly labels: Readonly<Record<string, string>>;
  /** `onnx`, or with a version, `sklearn:1`. */
  readonly formats: readonly string[];
  /** The model server does not mark its "not found" with x-warm-not-here. */
  readonly absenceByStatus?: boolean | undefined;
  /** As the model server says it now; none when absent. */
  readonly idInjections?: (() => readonly IdInjection[]) | undefined;
  /** How long a load may take here, as far as that was said. */
  readonly loadTimeoutMs?: (() => number | undefined) | undefined;
  /** Where /metrics of this adapter is; empty when it has none. */
  readonly metricsAddress?: string | undefined;
}

export interface LinkServerParts {
  readonly pod: PodFacts;
  readonly agent: Agent;
  readonly clock: Clock;
  readonly log: Log;
  /** 500 ms when absent. */
  readonly gaugesMs?: number;
  /** A gateway not heard of for so long is let go; 10 s when absent. */
  readonly silenceMs?: number;
  /** 1,024 when absent. */
  readonly maxGateways?: number;
  /** How long a gateway's drain may take; 10 minutes when absent. */
  readonly drainMs?: number;
}

export interface LinkServer extends Disposable {
  addTo(server: Server): void;
  /** Tells gateways what the holding decided. */
  tell(message: AgentMessage): void;
  /** Before they are told of the copy. */
  tellTimes(times: LoadTimes): void;
  readonly gateways: number;
  /** What this pod is has changed: gateways come again to hear it. */
  renew(): void;
}

type Call = ServerDuplexStream<GatewayMessage, PodMessage>;

interface Stream {
  readonly gatewayId: string;
  push(message: AgentMessage): void;
  times(times: LoadTimes): void;
  gauges(): void;
  close(reason: string): void;
}

const helloTimeoutMs = 5_000;
const maxVerifying = 64;
const maxTextLength = 300;
const maxBacklog = 100_000;

export function createLinkServer(parts: LinkServerParts): LinkServer {
  const { agent, log, gaugesMs = 500, maxGateways = 1_024 } = parts;
  const streams = new Map<string, Stream>();
  const opened = new Set<Call>();
  let gaugesTimer: NodeJS.Timeout | undefined;

  const attach = (call: Call): void => {
    // Strangers who never say Hello are let in only so many at a time.
    if (opened.size >= 2 * maxGateways) {
      call.end();
      return;
    }
    opened.add(call);
    const late = setTimeout(() => call.end(), helloTimeoutMs);
    let stream: Stream | undefined;
    let over = false;
    const end = (): void => {
      if (over) return;
      over = true;
      clearTimeout(late);
      opened.delete(call);
      call.end();
      if (stream === undefined || streams.get(stream.gatewayId) !== stream) return;
      streams.delete(stream.gatewayId);
      if (streams.size === 0) clearInterval(gaugesTimer);
      log.info("a gateway left", { gatewayId: stream.gatewayId });
      agent.post({ kind: "gateway-detached", gatewayId: stream.gatewayId });
    };
    const greet = (gatewayId: string): void => {
      const parsed = parseModelName(gatewayId);
      if (parsed.kind === "refused" || (streams.size >= maxGateways && !streams.has(gatewayId))) return end();
      clearTimeout(late);
      streams.get(gatewayId)?.close("another stream of the same gateway took its place");
      if (streams.size === 0) gaugesTimer = setInterval(() => tellGauges(), gaugesMs);
      const attached = openStream(call, gatewayId, parts, end);
      stream = attached.stream;
      receive = attached.receive;
      streams.set(gatewayId, stream);
      log.info("a gateway is attached", { gatewayId });
      return agent.post({ kind: "gateway-attached", gatewayId });
    };
    let receive = (message: GatewayMessage): void => {
      if (message.message.case === "hello") greet(message.message.value.gatewayId);
      else end();
    };
    call.on("data", (message: GatewayMessage) => {
      if (!over) receive(message);
    });
    // An error is followed by nothing that could be used.
    for (const event of ["end", "error", "close", "cancelled"]) call.on(event, end);
  };

  const tellGauges = (): void => {
    for (const stream of streams.values()) stream.gauges();
  };

  return {
    addTo: (server) => addService(server, Link, { attach }),
    get gateways(): number {
      return streams.size;
    },
    tell(message): void {
      if ("gatewayId" in message) streams.get(message.gatewayId)?.push(message);
      else for (const stream of streams.values()) stream.push(message);
    },
    tellTimes(times): void {
      for (const stream of streams.values()) stream.times(times);
    },
    renew(): void {
      for (const stream of Array.from(streams.values())) stream.close("what this pod is has changed");
    },
    [Symbol.dispose](): void {
      clearInterval(gaugesTimer);
      for (const stream of Array.from(streams.values())) stream.close("the adapter is stopping");
      for (const call of opened) call.end();
    },
  };
}

/** From Hello on. */
function openStream(
  call: Call,
  gatewayId: string,
  parts: LinkServerParts,
  onEnd: () => void,
): { readonly stream: Stream; readonly receive: (message: GatewayMessage) => void } {
  const { agent, clock, log, pod, silenceMs = 10_000, drainMs = 600_000 } = parts;
  const outbox = createOutbox();
  const ended = new AbortController();
  let heardMs = clock.monotonicMs();
  let blocked = false;
  let verifying = 0;

  const flush = (): void => {
    while (!blocked && !ended.signal.aborted) {
      const message = outbox.take(clock.monotonicMs());
      if (message === undefined) return;
      blocked = !call.write(buildMessage(message));
    }
    if (outbox.backlog > maxBacklog) close("it asks more than it reads");
  };
  call.on("drain", () => {
    blocked = false;
    flush();
  });

  const say = (message: ToGateway): void => {
    outbox.said(message);
    flush();
  };
  const close = (reason: string): void => {
    if (ended.signal.aborted) return;
    log.debug("a Link ends", { gatewayId, reason });
    ended.abort(new Error(reason));
    clearInterval(silence);
    onEnd();
  };
  const silence = setInterval(() => {
    if (clock.monotonicMs() - heardMs > silenceMs) close(`nothing was heard for ${silenceMs} ms`);
  }, silenceMs / 4);
  for (const event of ["end", "error", "close", "cancelled"]) call.on(event, () => close("the gateway closed it"));

  const onLoad = (load: Load): void => {
    const parsed = parseLoad(load);
    if ("kind" in parsed) {
      const { model = "", revision = "" } = load.revision ?? {};
      const why = LoadRefused_Why.INVALID;
      const { reason } = parsed;
      return say({
        case: "loadRefused",
        value: { model: model.slice(0, maxTextLength), revision: revision.slice(0, maxTextLength), why, reason },
      });
    }
    return agent.post({
      kind: "load-asked",
      gatewayId,
      ...parsed,
      serverName: serverName(parsed.model, parsed.revision.slot),
    });
  };
  const onVerify = async ({ id, ...from }: Verify): Promise<void> => {
    const key = parseKey(from);
    if (key === undefined || verifying >= maxVerifying) return say({ case: "verified", value: { id, ready: false } });
    verifying += 1;
    const ready = await agent.verify(key, ended.signal);
    verifying -= 1;
    return say({ case: "verified", value: { id, ready } });
  };

  const receive = ({ message }: GatewayMessage): void => {
    heardMs = clock.monotonicMs();
    switch (message.case) {
      case "load":
        return onLoad(message.value);
      case "cancelLoad": {
        const key = parseKey(message.value);
        return key === undefined ? undefined : agent.post({ kind: "load-cancelled", gatewayId, key });
      }
      case "usage":
        return agent.post({ kind: "used", uses: parseUsage(message.value) });
      case "withdrawAck":
        for (const sequence of outbox.acked(message.value.sequence)) agent.post({ kind: "withdraw-acked", gatewayId, sequence });
        return undefined;
      case "verify":
        onVerify(message.value).catch((error: unknown) => log.error("a verification failed", { error }));
        return undefined;
      case "drop": {
        const key = parseKey(message.value);
        return key === undefined ? undefined : agent.post({ kind: "dropped", key });
      }
      case "owners":
        return agent.post({ kind: "owned", owners: parseOwners(message.value) });
      case "trim": {
        const { tenant, bytes } = message.value;
        return agent.post({ kind: "trimmed", tenant, bytes: Number(bytes) });
      }
      case "startDrain":
        return agent.post({ kind: "drain-started", patienceMs: drainMs });
      case "ping":
        // A gateway that pings without reading is told of the newest only.
        return blocked ? undefined : say({ case: "pong", value: { id: message.value.id } });
      case "hello":
        return close("it said Hello twice");
      case undefined:
        return undefined;
    }
  };

  outbox.said({
    case: "pod",
    value: {
      ...pod,
      // The model server may say that it has less, or more.
      capacityBytes: BigInt(agent.gauges().capacityBytes),
      loadTimeoutMs: Math.ceil(pod.loadTimeoutMs?.() ?? 0),
      labels: { ...pod.labels },
      formats: [...pod.formats],
      absenceByStatus: pod.absenceByStatus === true,
      restByGrpc: pod.restByGrpc === true,
      idInjections: (pod.idInjections?.() ?? []).map(({ method, path }) => ({ method, path: [...path] })),
      serverLosses: agent.losses,
      metricsAddress: pod.metricsAddress ?? "",
    },
  });
  const first = outbox.take(clock.monotonicMs());
  if (first !== undefined) blocked = !call.write(buildMessage(first));
  outbox.snapshot(agent.views());
  outbox.gauges(buildGauges(agent.gauges()));
  flush();

  return {
    receive,
    stream: {
      gatewayId,
      close,
      push(message): void {
        if (message.kind === "refuse") {
          const { model, revision, why, reason } = message;
          outbox.said({ case: "loadRefused", value: { model, revision, why: refusals[why], reason } });
        } else if (message.kind === "draining") {
          const nowMs = clock.monotonicMs();
          const parts = Array.from({ length: Math.ceil(message.copies.length / maxCopiesPerMessage) }, (_, part) =>
            message.copies.slice(part * maxCopiesPerMessage, (part + 1) * maxCopiesPerMessage),
          );
          for (const part of parts) {
            const copies = part.map((view) => buildCopy(view, nowMs));
            outbox.said({ case: "draining", value: { copies, patienceMs: Math.round(message.patienceMs) } });
          }
          outbox.gauges(buildGauges(agent.gauges()));
        } else if (message.kind === "server-lost") {
          if (message.died) outbox.said({ case: "serverDied", value: {} });
          outbox.said({ case: "serverLost", value: { losses: message.losses } });
        } else if (message.kind === "tell") outbox.changed(message.changes, message.withdrawals);
        else outbox.changed(message.changes, message.withdraw ? [message.sequence] : []);
        if (message.kind === "publish" && message.changes.some(({ state }) => state === "ready" || state === "failed")) {
          outbox.gauges(buildGauges(agent.gauges()));
        }
        flush();
      },
      times(times): void {
        // Nobody waits for them: a gateway that does not read goes without.
        if (!blocked) outbox.said(buildTimes(times));
      },
      gauges(): void {
        outbox.gauges(buildGauges(agent.gauges()));
        flush();
      },
    },
  };
}
