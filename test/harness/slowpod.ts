// Owns a pod whose model server answers when it is told to: for what happens to requests that take long.
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { openRegistry } from "#platform/registry/open.ts";
import { type FakePod, openFakePod } from "./fakepod.ts";
import type { TestFleet } from "./fleet.ts";
import { waitUntil } from "./wait.ts";

export interface SlowPod extends AsyncDisposable {
  /** Requests that wait for their answers, in the order they came. */
  readonly asked: ServerResponse[];
  /** Resolves when so many wait. */
  whenAsked(count: number): Promise<void>;
  /** Its adapter ends; the model server goes on. */
  endAdapter(): Promise<void>;
  /**
   * Its model server is lost and started anew. The connections to the one before stay open, held by what it left behind, and
   * nothing is said on them.
   */
  loseServer(): void;
  /** Requests on such connections. */
  readonly unheard: number;
}

/** The pod is of the runtime `slow`, and linked. Its answers say its id in x-pod. */
export async function openSlowPod(fleet: TestFleet, podId: string): Promise<SlowPod> {
  await using opening = new AsyncDisposableStack();
  const asked: ServerResponse[] = [];
  const connections = new Set<Socket>();
  let leftBehind = new Set<Socket>();
  let unheard = 0;
  const server = createServer((request, response) => {
    request.resume();
    connections.add(request.socket);
    if (leftBehind.has(request.socket)) {
      unheard += 1;
      return;
    }
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
    async whenAsked(count) {
      await waitUntil(
        "the pod is asked",
        () => asked.length,
        (length) => length === count,
      );
    },
    async endAdapter() {
      await pod[Symbol.asyncDispose]();
    },
    loseServer() {
      leftBehind = new Set(connections);
      asked.length = 0;
      pod.loseServer();
    },
    get unheard() {
      return unheard;
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
