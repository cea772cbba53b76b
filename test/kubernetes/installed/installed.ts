// Owns what tests of an installation by helm stand on, beside the installation itself.
import assert from "node:assert/strict";
import { Agent, request } from "undici";
import { waitUntil } from "#test/harness/wait.ts";
import { chartFolder } from "../harness/crds.ts";
import { type Installation, testValues } from "../harness/installation.ts";
import type { KubeValue } from "../harness/kubectl.ts";

export const podsMs = 240_000;
export const gatewayPods = "app.kubernetes.io/component=gateway";

export interface Installed {
  readonly it: Installation;
  upgrade(...values: readonly string[]): Promise<void>;
  /** Of a runtime. */
  deployment(runtime?: string): Promise<KubeValue>;
  runtimePods(runtime?: string): Promise<readonly KubeValue[]>;
  untilNoPods(): Promise<void>;
  /** Right, over both: a client that the machine leaves no time asks again. */
  answers(model: string): Promise<void>;
  /** What a process tells of itself: the status, and the text. */
  scrape(selector: string, port: number, headers?: Readonly<Record<string, string>>): Promise<string>;
  scrapeGateway(): Promise<string>;
  /** By the Service that clients call. */
  scrapeService(path: string): Promise<string>;
  /** Waits until an event of this reason tells of the object. */
  untilTold(kind: string, name: string, reason: string): Promise<void>;
}

export const isLoaded = (status: KubeValue): boolean => status.modelStatus?.states?.activeModelState === "Loaded";

/** `values`: those that it was installed with. */
export function createInstalled(it: Installation, values: readonly string[]): Installed {
  const runtimePods: Installed["runtimePods"] = (runtime = "onnx") => it.pods(`warmpath.dev/runtime=${runtime}`);
  const get = async (
    address: string,
    port: number,
    isSecured: boolean,
    path: string,
    headers: Readonly<Record<string, string>>,
  ): Promise<string> => {
    const { "ca.crt": ca = "" } = await it.secret("warmpath-management-tls");
    await using stack = new AsyncDisposableStack();
    const connect = { timeout: podsMs, ...(isSecured ? { ca, servername: "warmpath-management" } : {}) };
    // A connection of its own: one that is kept may be closed the moment it is used again.
    const dispatcher = stack.adopt(new Agent({ connect }), (agent) => agent.destroy());
    const at = await it.cluster.forward(address, port);
    const url = `${isSecured ? "https" : "http"}://${at.host}:${at.port}${path}`;
    const { statusCode, body } = await request(url, { dispatcher, headers });
    return `${statusCode} ${await body.text()}`;
  };
  const scrape: Installed["scrape"] = async (selector, port, headers = {}) => {
    const [pod] = await it.pods(selector);
    return await get(String(pod?.status.podIP), port, selector === gatewayPods, "/metrics", headers);
  };
  return {
    it,
    async upgrade(...more) {
      const set = [...testValues, ...values, ...more].flatMap((value) => ["--set", value]);
      const { code, stderr } = await it.helm("upgrade", "warmpath", chartFolder, "--wait", "--timeout", "10m", ...set);
      assert.equal(code, 0, stderr);
    },
    deployment: (runtime = "onnx") => it.get("deployment", `modelmesh-serving-${runtime}`),
    runtimePods,
    async untilNoPods() {
      await waitUntil(
        "its pods are gone",
        async () => (await runtimePods()).map(({ metadata, status }) => ({ ...metadata, containers: status.containerStatuses })),
        (left) => left.length === 0,
        podsMs,
      );
    },
    async answers(model) {
      for (const wire of ["rest", "grpc"] as const) {
        const ask = (): Promise<string> =>
          it.asker.ask(model, wire).then(
            () => "right",
            (error: unknown) => String(error),
          );
        const said = await waitUntil(
          `${model} answers over ${wire}`,
          ask,
          (answer) => !/DEADLINE_EXCEEDED|[Tt]imeout/.test(answer),
          podsMs,
        );
        assert.equal(said, "right");
      }
    },
    scrape,
    async scrapeService(path) {
      const { spec } = await it.get("service", "modelmesh-serving");
      return await get(spec.clusterIP, 2112, true, path, {});
    },
    async scrapeGateway() {
      const { "scrape-token": token = "" } = await it.secret("warmpath-management-tokens");
      return await scrape(gatewayPods, 8080, { authorization: `Bearer ${token}` });
    },
    async untilTold(kind, name, reason) {
      const selector = `reason=${reason},regarding.kind=${kind},regarding.name=${name}`;
      const events = ["get", "events.events.k8s.io", "--namespace", it.namespace, "--field-selector", selector];
      await waitUntil(
        `${kind} ${name}: ${reason} is told`,
        () => it.cluster.kubectl(...events, "--output", "name"),
        (found) => found !== "",
        podsMs,
      );
    },
  };
}
