// Owns the fault of resources that Envoy refuses: a pod comes whose address is no IP address, which no rule of the
// protocol forbids, and which holds a model ready.
import { openRegistry } from "#platform/registry/open.ts";
import { CopyState } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { openFakePod } from "#test/harness/fakepod.ts";
import type { TestFleet } from "#test/harness/fleet.ts";
import { waitUntil } from "#test/harness/wait.ts";
import type { MakeFault } from "./fault.ts";

export async function prepareRefused(fleet: TestFleet, stack: AsyncDisposableStack): Promise<MakeFault> {
  const registry = stack.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const rejected = async (): Promise<number> =>
    (await fleet.envoyStats("^cluster_manager.cds.update_rejected$")).get("cluster_manager.cds.update_rejected") ?? 0;
  let made = 0;
  return async ({ traffic, takeCold }) => {
    made += 1;
    // What was refused once is not sent again, so each time it is another.
    const noAddress = `no-address-${made}:1`;
    const before = await rejected();
    const [model = ""] = takeCold(1);
    const detail = await fleet.manage("GET", `/api/v1/models/${model}`);
    const revision = /"(r-[0-9a-f]{12})"/.exec(detail.text)?.[1] ?? "";
    await using _pod = await openFakePod({
      registry,
      podId: `pod-without-address-${made}`,
      restAddress: noAddress,
      grpcAddress: noAddress,
      // No model is of this kind, so nothing is ever placed there.
      runtime: "none",
      copies: [{ model, revision, slot: 0, state: CopyState.READY, sizeBytes: 100_000n }],
    });
    await waitUntil("Envoy refuses it", rejected, (now) => now > before);
    await traffic.more(1_000);
  };
}
