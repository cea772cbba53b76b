// Owns a traffic run: clients that call one model after the other, each waiting for its answer, over REST and gRPC.
// Invariants: the same seed asks the same questions in the same order per client; every answer is checked; requests cut
// off by the caller's signal are not counted; when the run is over nothing of it is left open.
import { refuteAnswer } from "#cli/library/answer.ts";
import type { Oracle } from "#cli/library/oracle.ts";
import { createRandom } from "#cli/library/random.ts";
import { sleep } from "#platform/clock.ts";
import type { Caller, ClientTls } from "./caller.ts";
import { createGrpcCaller } from "./grpc.ts";
import { createTally, type TrafficReport, type TrafficSample } from "./report.ts";
import { createRestCaller } from "./rest.ts";
import { createZipf, type Zipf } from "./zipf.ts";

export interface TrafficOptions {
  /** Such as http://127.0.0.1:8008 */
  readonly restUrl: string;
  /** `host:port`; one client in four uses it, at least one when there are two. */
  readonly grpcTarget?: string;
  /** Other gateways: every fourth client goes to the next one. */
  readonly others?: readonly { readonly restUrl: string; readonly grpcTarget: string }[];
  /** Names to call; each is known to the oracle. */
  readonly models: readonly string[];
  readonly oracle: Oracle;
  /** No request starts later; those under way are waited for. */
  readonly durationMs: number;
  /** Clients, hence requests under way at once. */
  readonly concurrency: number;
  readonly zipfExponent: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  /** Of one request; 30 s when absent. */
  readonly timeoutMs?: number;
  readonly tls?: ClientTls | undefined;
  readonly onSample?: (sample: TrafficSample) => void;
}

const grpcClientsOneIn = 4;
const defaultTimeoutMs = 30_000;
/** A server that is away shall not be asked a thousand times a second. */
const pauseAfterFailureMs = 20;

/** Drives traffic until the time is over or the signal is aborted; both end it well. */
export async function driveTraffic(options: TrafficOptions): Promise<TrafficReport> {
  const { concurrency, grpcTarget, models, seed, signal, timeoutMs = defaultTimeoutMs, tls, zipfExponent } = options;
  if (!Number.isInteger(concurrency) || concurrency < 1) throw new RangeError(`there must be a client, not ${concurrency}`);
  const tally = createTally();
  await using stack = new AsyncDisposableStack();
  const gateways = [{ restUrl: options.restUrl, grpcTarget }, ...(options.others ?? [])].map((gateway) => {
    const rest = stack.use(createRestCaller({ url: gateway.restUrl, connections: concurrency, timeoutMs, tls }));
    const { grpcTarget: target } = gateway;
    return { rest, grpc: target === undefined ? rest : stack.use(createGrpcCaller({ target, timeoutMs, signal, tls })) };
  });
  // Ends REST requests under way; gRPC's end by the signal itself.
  const cut = (): void => {
    for (const { rest } of gateways) void rest[Symbol.asyncDispose]();
  };
  signal.addEventListener("abort", cut, { once: true });
  stack.defer(() => signal.removeEventListener("abort", cut));

  const shared = {
    ...options,
    zipf: createZipf(models, { exponent: zipfExponent, seed }),
    endMs: performance.now() + options.durationMs,
  };
  await Promise.all(
    Array.from({ length: concurrency }, async (_, client) => {
      const gateway = gateways[Math.floor(client / grpcClientsOneIn) % gateways.length];
      const caller = client % grpcClientsOneIn === 1 ? gateway?.grpc : gateway?.rest;
      if (caller === undefined) throw new RangeError("there is no gateway");
      await runClient({ ...shared, client, caller }, tally.add);
    }),
  );
  return tally.report();
}

interface ClientOptions extends TrafficOptions {
  readonly client: number;
  readonly caller: Caller;
  readonly zipf: Zipf;
  readonly endMs: number;
}

async function runClient(options: ClientOptions, add: (sample: TrafficSample) => void): Promise<void> {
  const { caller, client, endMs, onSample, oracle, seed, signal, zipf } = options;
  const random = createRandom(`client ${client} ${seed}`);
  while (!signal.aborted && performance.now() < endMs) {
    const model = zipf.draw(random);
    const { body, expect } = oracle.sampleCase(model, random);
    const startedMs = performance.now();
    const result = await caller.infer(model, body);
    const latencyMs = performance.now() - startedMs;
    if (signal.aborted) return;
    const common = { model, protocol: caller.protocol, latencyMs };
    if (result.kind === "failed") {
      report({ ...common, outcome: "failed", miss: false, reason: result.reason });
      // Being stopped meanwhile ends the loop.
      await sleep(pauseAfterFailureMs, signal).catch(() => undefined);
      continue;
    }
    const refuted = refuteAnswer(expect, result.outputs);
    const reason = refuted === undefined ? undefined : `${caller.protocol}: ${model}: ${refuted}`;
    report({ ...common, outcome: refuted === undefined ? "right" : "wrong", miss: result.miss, reason });
  }

  function report(sample: TrafficSample): void {
    add(sample);
    onSample?.(sample);
  }
}
