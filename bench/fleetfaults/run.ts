// Owns a run of the faults of a fleet: three gateways with an Envoy each, three pods, a real etcd, clocks that differ by
// minutes, and checked traffic through all gateways from before each fault until after it.
import { type EtcdServer, openEtcd } from "#test/harness/etcd.ts";
import { openFleet, type TestFleet } from "#test/harness/fleet.ts";
import { openTcpProxy, type TcpProxy } from "#test/harness/tcpproxy.ts";
import { type FaultSums, startFaultTraffic } from "../faults/traffic.ts";
import { type FleetFault, fleetFaults } from "./list.ts";

export interface FaultFleet {
  readonly fleet: TestFleet;
  readonly etcd: EtcdServer;
  /** Before the adapter of the first pod. */
  readonly proxy: TcpProxy;
}

export interface FleetFaultResult {
  readonly sums: Readonly<FaultSums>;
  /** What did not come about, if so. */
  readonly broken: string | undefined;
}

const minuteMs = 60_000;
const gateways = 3;
const pods = 3;
const workingSet = 300;

/** Nobody's clock agrees with another's: nothing may depend on that. */
export function clockErrorMs(name: string): number {
  return (
    { "gateway-0": 4 * minuteMs, "gateway-1": -7 * minuteMs, "pod-1-adapter": 10 * minuteMs, "pod-2-adapter": -3 * minuteMs }[
      name
    ] ?? 0
  );
}

export async function openFaultFleet(stack: AsyncDisposableStack): Promise<FaultFleet> {
  const etcd = stack.use(await openEtcd());
  let proxy: TcpProxy | undefined;
  const announceLink = async (podId: string, address: string): Promise<string> => {
    if (podId !== "pod-0") return address;
    proxy = stack.use(await openTcpProxy(address));
    return proxy.address;
  };
  const fleet = stack.use(await openFleet({ gateways, pods, etcd, clockErrorMs, announceLink }));
  if (proxy === undefined) throw new Error("there is no pod-0");
  return { etcd, fleet, proxy };
}

export async function runFleetFault(
  fault: FleetFault,
  { fleet, etcd, proxy }: FaultFleet,
  options: { readonly requests: number; readonly share: number; readonly signal: AbortSignal },
): Promise<FleetFaultResult> {
  const { requests, share, signal } = options;
  const { models: all } = fleet.oracle;
  const step = Math.floor(all.length / workingSet);
  const models = all.filter((_, at) => at % step === 0);
  const asked = new Set(models);
  // From another part of the library for each fault.
  const first = fleetFaults.indexOf(fault) * 1_000;
  const cold = all.filter((model, at) => at >= first && !asked.has(model));
  await using traffic = startFaultTraffic(fleet, { models, zipfExponent: 1.1, signal });
  let broken: string | undefined;
  try {
    await traffic.more(Math.ceil(requests / 4));
    await fault.make({ fleet, etcd, proxy, traffic, models, takeCold: (count) => cold.splice(0, count), share, signal });
    await fleet.whenServing();
    await traffic.more(Math.ceil(requests / 4));
    while (traffic.sums.requests < requests) await traffic.more(100);
  } catch (error) {
    signal.throwIfAborted();
    broken = error instanceof Error ? error.message : String(error);
  }
  await traffic.stop();
  return { sums: traffic.sums, broken };
}
