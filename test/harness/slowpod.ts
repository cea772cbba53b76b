// Owns a pod whose model server answers when it is told to: for what happens to requests that take long.
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { openRegistry } from "#platform/registry/open.ts";
import { type FakePod, openFakePod } from "./fakepod.ts";
import type { TestFleet } from "./fleet.ts";
import { waitUntil } from "./wait.ts";

export interface SlowPod extends AsyncDisposable {
  /** Requests that wait for their answers, in the order they came. */
  readonly asked: ServerResponse[];
  /** Its adapter ends; the model server goes on. */
  endAdapter(): Promise<void>;
}

/** The pod is of the runtime `slow`, and linked. Its answers say its id in x-pod. */
export async function openSlowPod(fleet: TestFleet, podId: string): Promise<SlowPod> {
  await using opening = new AsyncDisposableStack();
  const asked: ServerResponse[] = [];
  const server = createServer((request, response) => {
    request.resume();
    response.setHeader("x-pod", podId);
    asked.push(response);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  opening.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const registry = opening.use(await openRegistry({ kind: "embedded", file: fleet.registryFile }));
  const before = await fleet.management.linkedPods();
  const pod: FakePod = opening.use(
    await openFakePod({ registry, podId, runtime: "slow", restAddress: address, grpcAddress: address }),
  );
  await waitUntil(
    `${podId} is linked`,
    () => fleet.management.linkedPods(),
    (pods) => pods > before,
  );
  const resources = opening.move();
  return {
    asked,
    async endAdapter() {
      await pod[Symbol.asyncDispose]();
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
