// Owns a fleet on which bad things are tried: clients of both ports, and the look whether anything was disturbed by them.
import assert from "node:assert/strict";
import { openRunFolder } from "#platform/tempdir.ts";
import { openFleet, type TestFleet } from "./fleet.ts";
import { type GrpcClient, openGrpcClient } from "./grpc.ts";
import { createRestClient, type RestClient } from "./http.ts";
import { buildSmallLibrary } from "./setup.ts";
import { waitUntil } from "./wait.ts";

export interface TriedFleet extends AsyncDisposable {
  readonly fleet: TestFleet;
  readonly rest: RestClient;
  readonly grpc: GrpcClient;
  /** A folder that no pod may read. */
  readonly folder: string;
  /** The hot model still answers rightly on both ports, and every process is the one it was. */
  assertUndisturbed(): Promise<void>;
}

/** With a small library of its own, of which one model is hit on both ports. */
export async function openTriedFleet(hot: string): Promise<TriedFleet> {
  await using opening = new AsyncDisposableStack();
  const { path: folder } = opening.use(await openRunFolder());
  const fleet = opening.use(await openFleet({ libraryFolder: await buildSmallLibrary(folder) }));
  const rest = opening.use(createRestClient(fleet.restUrl));
  const grpc = opening.use(await openGrpcClient(fleet.grpcTarget));
  for (const wire of ["rest", "grpc"] as const) {
    await waitUntil(
      `${hot} is hit over ${wire}`,
      () => fleet.asker.ask(hot, wire),
      ({ miss }) => !miss,
    );
  }
  const processIds = (): string => JSON.stringify([...fleet.processes].map(([name, { pid }]) => [name, pid]));
  const before = processIds();
  const opened = opening.move();
  return {
    fleet,
    rest,
    grpc,
    folder,
    async assertUndisturbed() {
      await fleet.asker.ask(hot, "rest");
      await fleet.asker.ask(hot, "grpc");
      assert.equal(processIds(), before, "processes by pid");
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}
