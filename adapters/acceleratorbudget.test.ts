// What copies take on accelerators has a budget of its own, over a server that speaks Triton's gRPC as documented and says what its
// models take on two devices: no accelerator is where tests run.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Server } from "@grpc/grpc-js";
import { systemClock } from "#platform/clock.ts";
import { addService, bindServer } from "#platform/grpc.ts";
import { silentLog } from "#platform/log.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import {
  GRPCInferenceService,
  ModelReadyResponseSchema,
  ModelStatisticsResponseSchema,
  RepositoryIndexResponseSchema,
  RepositoryModelLoadResponseSchema,
  RepositoryModelUnloadResponseSchema,
  ServerLiveResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { CopyState } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { openAdapter } from "./adapter.ts";
import { createServerParts } from "./drivers/open.ts";
import { createFilePuller } from "./pull/local.ts";
import { createPullers } from "./pull/puller.ts";
import { openTestGateway } from "./testing/gateway.ts";

/** What each model takes: little of the machine, and of the device that its name ends with 400 of 1,000 bytes. */
const machineBytes = 100n;
const deviceBytes = 400n;
const capacityBytes = 1_000_000;
const acceleratorBytes = 1_000;

function openScriptedTriton(): { readonly server: Server; readonly held: Set<string> } {
  const held = new Set<string>();
  const server = new Server();
  addService(server, GRPCInferenceService, {
    serverLive: (_, done) => done(null, create(ServerLiveResponseSchema, { live: true })),
    modelReady: ({ request }, done) => done(null, create(ModelReadyResponseSchema, { ready: held.has(request.name) })),
    repositoryIndex: (_, done) =>
      done(null, create(RepositoryIndexResponseSchema, { models: [...held].map((name) => ({ name, state: "READY" })) })),
    repositoryModelLoad({ request }, done) {
      held.add(request.modelName);
      done(null, create(RepositoryModelLoadResponseSchema));
    },
    repositoryModelUnload({ request }, done) {
      held.delete(request.modelName);
      done(null, create(RepositoryModelUnloadResponseSchema));
    },
    modelStatistics({ request }, done) {
      const modelStats = [...held]
        .filter((name) => request.name === "" || request.name === name)
        .map((name) => ({
          name,
          memoryUsage: [
            { type: "CPU", id: 0n, byteSize: machineBytes },
            { type: "GPU", id: BigInt(name.at(-1) ?? ""), byteSize: deviceBytes },
          ],
        }));
      done(null, create(ModelStatisticsResponseSchema, { modelStats }));
    },
  });
  return { server, held };
}

for (const budget of [acceleratorBytes, undefined]) {
  test(`copies on accelerators, ${budget === undefined ? "without a budget for these" : "within their budget"}`, async () => {
    await using folder = await openRunFolder();
    const artefact = join(folder.path, "model.onnx");
    await writeFile(artefact, "m");
    const { server, held } = openScriptedTriton();
    await using stack = new AsyncDisposableStack();
    stack.defer(() => server.forceShutdown());
    const grpcAddress = `127.0.0.1:${await bindServer(server, "127.0.0.1:0")}`;
    const repository = join(folder.path, "repository");
    const { driver } = createServerParts(
      { driver: "triton", restAddress: grpcAddress, grpcAddress, repository, capacityBytes, acceleratorBytes: budget },
      systemClock,
    );
    const adapter = stack.use(
      await openAdapter({
        pod: { podId: "p", runtime: "triton", restAddress: grpcAddress, grpcAddress, labels: {}, formats: ["onnx"] },
        holding: { capacityBytes, minAgeMs: 0, loadConcurrency: 1 },
        driver,
        puller: createPullers({ file: createFilePuller({ storageRoot: folder.path }) }),
        link: { host: "127.0.0.1", port: 0 },
        log: silentLog,
      }),
    );
    const gateway = stack.use(openTestGateway(adapter.linkAddress));
    const names = ["a-0", "b-1", "c-0", "d-1", "e-0"];
    for (const name of names) {
      gateway.load(name, { storageUri: `file://${artefact}`, waitMs: 60_000 });
      await gateway.reaches(name, CopyState.READY, 60_000);
    }
    const expected = budget === undefined ? names : ["d-1", "e-0"];
    await waitFor(() => held.size === expected.length);
    assert.deepEqual([...held].toSorted(), expected);
    assert.equal(gateway.copies.get("e-0@r1")?.sizeBytes, budget === undefined ? machineBytes + deviceBytes : 400_000n);
    assert.deepEqual([gateway.refused, gateway.faults], [[], []]);
  });
}
