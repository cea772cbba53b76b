// Owns a gateway's end of a Link, for tests: keeps what it was told, checks the sequence, acks withdrawals by itself.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { createClient } from "#platform/grpc.ts";
import { waitFor } from "#platform/testing.ts";
import {
  type Copy,
  CopyState,
  GatewayMessageSchema,
  type Gauges,
  Link,
  LoadClass,
  type LoadRefused,
  type LoadTimes,
  type Pod,
} from "#proto/gen/warmpath/link/v1/link_pb.ts";

type ToAdapter = NonNullable<MessageInitShape<typeof GatewayMessageSchema>["message"]>;

export interface TestGateway extends Disposable {
  readonly pod: Pod | undefined;
  readonly linked: boolean;
  readonly parts: number;
  readonly copies: ReadonlyMap<string, Copy>;
  /** Every state told of each copy, in order. */
  readonly states: ReadonlyMap<string, readonly CopyState[]>;
  readonly refused: readonly LoadRefused[];
  /** Of loads that ended, each with the state that its copy was in then as far as it was told. */
  readonly times: readonly (readonly [LoadTimes, CopyState | undefined])[];
  readonly gauges: Gauges | undefined;
  readonly verified: ReadonlyMap<bigint, boolean>;
  readonly pongs: readonly bigint[];
  /** What broke the rules of the Link. */
  readonly faults: readonly string[];
  readonly withdrawals: readonly bigint[];
  /** Models for which the pod wants other places, in order. */
  readonly draining: readonly string[];
  readonly ended: boolean;
  readonly deltas: number;
  /** Reads nothing until resumed. */
  pause(): void;
  resume(): void;
  send(message: ToAdapter): void;
  load(model: string, options?: LoadOptions): void;
  /** Waits until the copy is in this state. */
  reaches(model: string, state: CopyState, timeoutMs?: number): Promise<Copy>;
}

export interface LoadOptions {
  readonly revision?: string;
  readonly storageUri?: string;
  readonly format?: string;
  readonly slot?: number;
  readonly loadClass?: LoadClass;
  readonly waitMs?: number;
  readonly sizeHintBytes?: number;
}

export interface TestGatewayOptions {
  readonly gatewayId?: string;
  /** True when absent. */
  readonly acks?: boolean;
  /** A gateway that says nothing for long is let go: true when absent. */
  readonly pings?: boolean;
}

const pingMs = 1_000;
const pingId = 0n;

export function openTestGateway(address: string, options: TestGatewayOptions = {}): TestGateway {
  const { gatewayId = "g1", acks = true, pings = true } = options;
  const client = createClient(Link, address);
  const stream = client.attach();
  const copies = new Map<string, Copy>();
  const states = new Map<string, CopyState[]>();
  const refused: LoadRefused[] = [];
  const times: [LoadTimes, CopyState | undefined][] = [];
  const verified = new Map<bigint, boolean>();
  const pongs: bigint[] = [];
  const faults: string[] = [];
  const withdrawals: bigint[] = [];
  const draining: string[] = [];
  let pod: Pod | undefined;
  let linked = false;
  let parts = 0;
  let gauges: Gauges | undefined;
  let sequence = 0n;
  let ended = false;
  let deltas = 0;

  const send = (message: ToAdapter): void => {
    if (!ended) stream.write(create(GatewayMessageSchema, { message }));
  };
  const see = (copy: Copy): void => {
    const key = `${copy.model}@${copy.revision}`;
    states.set(key, [...(states.get(key) ?? []), copy.state]);
    if (copy.state === CopyState.GONE) copies.delete(key);
    else copies.set(key, copy);
  };
  stream.on("data", ({ message }) => {
    switch (message.case) {
      case "pod":
        if (pod !== undefined) faults.push("two pods");
        pod = message.value;
        return;
      case "snapshot":
        if (pod === undefined || linked) faults.push("snapshot out of turn");
        parts += 1;
        for (const copy of message.value.copies) see(copy);
        sequence = message.value.sequence;
        linked = message.value.last;
        return;
      case "loadTimes":
        times.push([message.value, copies.get(`${message.value.model}@${message.value.revision}`)?.state]);
        return;
      case "delta":
        deltas += 1;
        if (!linked) faults.push("delta before the snapshot");
        if (message.value.sequence !== sequence + 1n) faults.push(`gap after ${sequence}`);
        sequence = message.value.sequence;
        for (const copy of message.value.copies) see(copy);
        if (!message.value.withdraw) return;
        withdrawals.push(sequence);
        if (acks) send({ case: "withdrawAck", value: { sequence } });
        return;
      case "gauges":
        gauges = message.value;
        return;
      case "verified":
        verified.set(message.value.id, message.value.ready);
        return;
      case "loadRefused":
        refused.push(message.value);
        return;
      case "pong":
        if (message.value.id !== pingId) pongs.push(message.value.id);
        return;
      case "draining":
        for (const { model } of message.value.copies) draining.push(model);
        return;
      case undefined:
        faults.push("an empty message");
    }
  });
  stream.on("error", () => (ended = true));
  stream.on("end", () => (ended = true));
  send({ case: "hello", value: { gatewayId } });
  const pinging = setInterval(() => {
    if (pings) send({ case: "ping", value: { id: pingId } });
  }, pingMs);
  pinging.unref();

  return {
    copies,
    states,
    refused,
    times,
    verified,
    pongs,
    faults,
    withdrawals,
    draining,
    get pod(): Pod | undefined {
      return pod;
    },
    get linked(): boolean {
      return linked;
    },
    get parts(): number {
      return parts;
    },
    get gauges(): Gauges | undefined {
      return gauges;
    },
    get deltas(): number {
      return deltas;
    },
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    get ended(): boolean {
      return ended;
    },
    send,
    load(model, { revision = "r1", storageUri = `file:///models/${model}`, slot = 0, ...rest } = {}): void {
      const { loadClass = LoadClass.WAITING_USER, waitMs = 10_000, sizeHintBytes = 0, format = "onnx" } = rest;
      send({
        case: "load",
        value: {
          revision: { model, revision, slot, format, storageUri, sizeHintBytes: BigInt(sizeHintBytes) },
          loadClass,
          waitMs,
        },
      });
    },
    reaches: (model, state, timeoutMs = 30_000) =>
      waitFor(
        () => {
          const copy = copies.get(`${model}@r1`);
          return copy?.state === state ? copy : undefined;
        },
        { timeoutMs },
      ),
    [Symbol.dispose](): void {
      ended = true;
      clearInterval(pinging);
      stream.cancel();
      client[Symbol.dispose]();
    },
  };
}
