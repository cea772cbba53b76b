// Owns a namespace that is served without nodes: an API server, a fleet of this machine, a controller between them, and the way
// to look at what became of an object.
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { openFleet, type TestFleet } from "../../harness/fleet.ts";
import { waitUntil } from "../../harness/wait.ts";
import { openController, type TestController } from "./controller.ts";
import { type ControlPlane, openControlPlane } from "./controlplane.ts";
import { applyCrds } from "./crds.ts";
import type { KubeValue } from "./kubectl.ts";
import { onnxRuntime } from "./objects.ts";

export const waitMs = 60_000;

export interface Served extends AsyncDisposable {
  readonly plane: ControlPlane;
  readonly fleet: TestFleet;
  /** Ends the controller as a process would end, and waits until it has. */
  stopController(): Promise<void>;
  startController(): Promise<void>;
  /** A model of the library. */
  artefact(model: string): string;
  /** Where there is none. */
  missing(): string;
  statusOf(kind: string, name: string): Promise<KubeValue>;
  until(kind: string, name: string, what: string, holds: (status: KubeValue) => boolean): Promise<KubeValue>;
  /** The HTTP status of one inference. */
  infer(model: string, headers?: Readonly<Record<string, string>>): Promise<number>;
  /** The HTTP status of the model's record at the management API. */
  registered(name: string): Promise<number>;
  untilRegistered(name: string, status: number): Promise<void>;
}

export async function openServed(
  options: { readonly pods?: number; readonly storageConfig?: string; readonly authFile?: string } = {},
): Promise<Served> {
  await using stack = new AsyncDisposableStack();
  const plane = stack.use(await openControlPlane());
  await applyCrds(plane.kubectl);
  const fleet = stack.use(await openFleet({ pods: 2, ...options }));
  await fleet.whenServing();
  let controller: TestController | undefined;
  const stopController = async (): Promise<void> => {
    await controller?.[Symbol.asyncDispose]();
    controller = undefined;
  };
  const startController = async (): Promise<void> => {
    controller = await openController({
      kubeconfig: plane.kubeconfig,
      registryFile: fleet.registryFile,
      gatewayUrl: fleet.adminUrl,
      change: (parts) => ({ ...parts, callersProve: options.authFile !== undefined }),
    });
    await controller.synced;
  };
  stack.defer(stopController);
  await startController();
  await plane.kubectl.apply(onnxRuntime());
  const parts = stack.move();
  const at = (path: string): string => pathToFileURL(join(fleet.libraryFolder, path)).href;
  const statusOf = async (kind: string, name: string): Promise<KubeValue> => (await plane.kubectl.get(kind, name))?.status ?? {};
  const registered = async (name: string): Promise<number> => (await fleet.manage("GET", `/api/v1/models/${name}`)).status;
  return {
    plane,
    fleet,
    stopController,
    startController,
    artefact: (model) => at(`models/${model.split("-")[0]}/${model}.onnx`),
    missing: () => at("models/iris/not-there.onnx"),
    statusOf,
    until: (kind, name, what, holds) => waitUntil(`${kind} ${name} ${what}`, () => statusOf(kind, name), holds, waitMs),
    async infer(model, headers = {}) {
      const body = { inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }] };
      const answer = await fetch(`${fleet.restUrl}/v2/models/${model}/infer`, {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "content-type": "application/json", ...headers },
      });
      await answer.text();
      return answer.status;
    },
    registered,
    async untilRegistered(name, status) {
      await waitUntil(
        `${name} is ${status} at the management API`,
        () => registered(name),
        (code) => code === status,
        waitMs,
      );
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

export function stateOf(status: KubeValue): string {
  return status.modelStatus?.states?.activeModelState;
}

export function isLoaded(status: KubeValue): boolean {
  return stateOf(status) === "Loaded" && status.modelStatus.transitionStatus === "UpToDate";
}
