// The chart's installation as one would run it: more than one gateway, more than one pod for a runtime, callers who prove who
// they are, and accounts of the cluster at the management API. Real pods; what the values say is seen to hold at each gateway.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { credentials } from "@grpc/grpc-js";
import { Agent, request } from "undici";
import { createClient } from "#platform/grpc.ts";
import { createAuthority } from "#platform/tls/authority.ts";
import { GRPCInferenceService } from "#proto/gen/inference/open_inference_pb.ts";
import { waitUntil } from "../harness/wait.ts";
import { chartFolder } from "./harness/crds.ts";
import { warmpathImage } from "./harness/images.ts";
import { claimName, type Installation, namespace, openInstallation } from "./harness/installation.ts";
import { buildInferenceService, onnxRuntime } from "./harness/objects.ts";
import { type OwnEtcd, openOwnEtcd } from "./harness/ownetcd.ts";
import { whyNoCluster } from "./harness/programs.ts";
import { idlePod, tryFrom } from "./harness/reach.ts";
import { type Callers, component, gateways, openCallers, runtimePods, servingHost } from "./installed/callers.ts";
import { testClaims } from "./installed/claims.ts";
import { testEviction } from "./installed/eviction.ts";
import { isLoaded, podsMs } from "./installed/installed.ts";
import { testOwnEtcd } from "./installed/ownetcd.ts";

const skip = whyNoCluster() ?? false;
const certificateMs = 3_600_000;
const values = [
  "gateway.replicas=2",
  "gateway.drainSeconds=15",
  "podsPerRuntime=2",
  "auth.enabled=true",
  "managementTokens.accounts=true",
  "allowAnyPVC=false",
];
const model = "iris-t0001";

describe("an installation of two gateways on an etcd of one's own that asks callers who they are", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let it: Installation;
  let etcd: OwnEtcd;
  let callers: Callers;

  before(async () => {
    it = await openInstallation(values, {
      async prepare(cluster) {
        etcd = stack.use(await openOwnEtcd(cluster));
        await cluster.kubectl.apply(etcd.secret, namespace);
        const stringData = { listed: JSON.stringify({ type: "pvc", name: claimName }) };
        const settings = { apiVersion: "v1", kind: "Secret", metadata: { name: "storage-config" }, stringData };
        await cluster.kubectl.apply(JSON.stringify(settings), namespace);
        return etcd.values;
      },
    });
    stack.use(it);
    callers = stack.use(await openCallers(it, model));
    await callers.addAccount("looker", "read");
    await callers.addAccount("operator", "write");
    await it.apply(onnxRuntime());
    await it.apply(buildInferenceService(model, it.artefact(model), {}, { "warmpath.dev/min-copies": "2" }));
  });
  after(() => stack.disposeAsync());

  test("accounts of the cluster may do at each gateway what their rights say, and a key made at one is known to both", async () => {
    const addresses = await callers.twoGateways();
    for (const address of addresses) {
      assert.equal((await callers.manage(address, undefined, "pods")).status, 401);
      assert.equal((await callers.manage(address, "nonsense", "pods")).status, 401);
      assert.equal((await callers.manage(address, "looker", "pods")).status, 200);
      assert.equal((await callers.manage(address, "looker", "keys", { principal: it.namespace })).status, 403);
    }
    for (const [at, principal] of [it.namespace, "team-b"].entries()) {
      // A registry that has not answered in time, on a machine that has much else to do, is asked again.
      const made = await waitUntil(
        "a key is made",
        () => callers.manage(addresses[at] ?? "", "operator", "keys", { principal }),
        ({ status: answered }) => answered !== 503,
        podsMs,
      );
      assert.equal(made.status, 201, made.text);
      callers.keepKey(principal, (JSON.parse(made.text) as { key: string }).key);
    }
  });

  test("a model on two pods is answered by each gateway to who may call it, over TLS, and to nobody else", async () => {
    const loaded = await it.until("isvc", model, "is loaded", isLoaded, podsMs);
    assert.equal(loaded.components.predictor.restUrl, "https://modelmesh-serving.models:8008");
    const addresses = await callers.twoGateways();
    for (const address of addresses) {
      await waitUntil(
        "the gateway knows a copy on each of two pods",
        async () =>
          JSON.parse((await callers.manage(address, "looker", `models/${model}`)).text) as {
            copies?: { pod: string; state: string }[];
          },
        ({ copies = [] }) => new Set(copies.filter(({ state }) => state === "ready").map(({ pod }) => pod)).size === 2,
        podsMs,
      );
      const rest = await it.cluster.forward(address, 8008);
      const grpc = await it.cluster.forward(address, 8033);
      await waitUntil(
        "its own principal is answered",
        () => callers.askRest(rest, it.namespace),
        (said) => said === "right",
        podsMs,
      );
      assert.equal(await callers.askGrpcOnce(grpc, it.namespace), "right");
      assert.deepEqual(
        [await callers.askRest(rest, undefined), await callers.askGrpcOnce(grpc, undefined)],
        ["401", "UNAUTHENTICATED"],
      );
      assert.deepEqual(
        [await callers.askRest(rest, "nonsense"), await callers.askGrpcOnce(grpc, "nonsense")],
        ["401", "UNAUTHENTICATED"],
      );
      assert.deepEqual(
        [await callers.askRest(rest, "team-b"), await callers.askGrpcOnce(grpc, "team-b")],
        ["403", "PERMISSION_DENIED"],
      );
      await assert.rejects(request(`http://${rest.host}:${rest.port}/v2/models/${model}/ready`), "plain text");
    }
    await it.apply(
      JSON.stringify({
        apiVersion: "warmpath.dev/v1alpha1",
        kind: "AccessPolicy",
        metadata: { name: "shared" },
        spec: { callers: ["team-b"], models: { names: [model] } },
      }),
    );
    for (const address of addresses) {
      const rest = await it.cluster.forward(address, 8008);
      await waitUntil(
        "a policy lets another in",
        () => callers.askRest(rest, "team-b"),
        (said) => said === "right",
        podsMs,
      );
    }
  });

  test("the network lets through what the policies of the chart and of the runtimes say, and from nobody else", async () => {
    const [gateway, otherGateway] = await it.pods(gateways);
    const [runtime, otherRuntime] = await it.pods(runtimePods);
    const [controller] = await it.pods(component("controller"));
    const { "pod-template-hash": _, ...gatewayLabels } = gateway.metadata.labels;
    await it.apply(idlePod("stranger", warmpathImage));
    // The labels of a gateway are worth nothing in another namespace.
    await it.cluster.kubectl("create", "namespace", "elsewhere");
    await it.cluster.kubectl.apply(idlePod("lookalike", warmpathImage, gatewayLabels), "elsewhere");
    const strangers = [
      ["stranger", it.namespace],
      ["lookalike", "elsewhere"],
    ] as const;
    for (const [pod, namespace] of strangers)
      await it.cluster.kubectl("wait", "--for=condition=Ready", `pod/${pod}`, "--namespace", namespace, "--timeout=240s");
    const doors = [
      ["link", otherRuntime, 8085],
      ["server's REST", otherRuntime, 8002],
      ["server's gRPC", otherRuntime, 8001],
      ["pod's metrics", otherRuntime, 2112],
      ["REST", otherGateway, 8008],
      ["gRPC", otherGateway, 8033],
      ["gateway's metrics", otherGateway, 2112],
      ["management", otherGateway, 8080],
      ["peers", otherGateway, 8081],
      ["health", controller, 8082],
    ] as const;
    const openFrom = async (pod: string, container: string, namespace = it.namespace): Promise<readonly string[]> => {
      const places = doors.map(([, { status: seen }, port]) => ({ address: String(seen.podIP), port }));
      const said = await tryFrom(it, { namespace, pod, container }, places);
      return doors.flatMap(([door], at) => (said[at] === "open" ? [door] : []));
    };
    const everybody = ["pod's metrics", "REST", "gRPC", "gateway's metrics", "health"];
    const of = (...more: readonly string[]): readonly string[] =>
      doors.flatMap(([door]) => ([...everybody, ...more].includes(door) ? [door] : []));
    /** The network of the cluster learns of pods that have just come after a moment. */
    const untilOpenFrom = (
      pod: string,
      container: string,
      expected: readonly string[],
      namespace = it.namespace,
    ): Promise<unknown> =>
      waitUntil(
        `${pod} reaches ${expected.join(", ")}`,
        () => openFrom(pod, container, namespace),
        (open) => isDeepStrictEqual(open, expected),
        podsMs,
      );
    const toServers = ["link", "server's REST", "server's gRPC"];
    await untilOpenFrom(gateway.metadata.name, "gateway", of(...toServers, "peers"));
    await untilOpenFrom(controller.metadata.name, "controller", of("management"));
    await untilOpenFrom(runtime.metadata.name, "warmpath-adapter", of());
    for (const [pod, namespace] of strangers) await untilOpenFrom(pod, "idle", of(), namespace);
  });

  testClaims(() => it);
  testOwnEtcd(() => ({ callers, etcd }));
  testEviction(() => callers);

  test("all gateways are rolled under load, and no client that keeps its connection notices", async (context) => {
    const before = await callers.namesOf(gateways);
    const { told, summary } = await callers.tellUnderLoad(async () => {
      await it.cluster.kubectl("rollout", "restart", "deployment/warmpath-gateway", "--namespace", it.namespace);
      await callers.replaced(gateways, before);
    });
    context.diagnostic(summary);
    assert.deepEqual([...told.keys()], ["right"], summary);
  });

  test("with a certificate that is brought and client certificates, the name in one is its principal, and who has none is nobody", async () => {
    const authority = await createAuthority("brought", certificateMs);
    const server = await authority.issue([servingHost], certificateMs);
    const stringData = { "tls.crt": server.cert, "tls.key": server.key, "ca.crt": authority.cert };
    await it.apply(JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name: "brought" }, stringData }));
    const set = ["tls.secretName=brought", "tls.clientAuth=require", "auth.clientCertificates=dns"];
    const how = ["--reuse-values", "--wait", "--timeout", "10m", ...set.flatMap((value) => ["--set", value])];
    const { code, stderr } = await it.helm("upgrade", "warmpath", chartFolder, ...how);
    assert.equal(code, 0, stderr);
    const strangers = await createAuthority("brought", certificateMs);
    const shown = [
      { pair: await authority.issue([it.namespace], certificateMs), rest: "right", grpc: "right" },
      // The policy of before.
      { pair: await authority.issue(["team-b"], certificateMs), rest: "right", grpc: "right" },
      { pair: await authority.issue(["team-c"], certificateMs), rest: "403", grpc: "PERMISSION_DENIED" },
      { pair: await strangers.issue([it.namespace], certificateMs), rest: "no connection", grpc: "UNAVAILABLE" },
      { pair: undefined, rest: "no connection", grpc: "UNAVAILABLE" },
    ];
    for (const address of await callers.twoGateways()) {
      const [rest, grpc] = await Promise.all([8008, 8033].map((port) => it.cluster.forward(address, port)));
      assert.ok(rest !== undefined && grpc !== undefined);
      for (const { pair, ...expected } of shown) {
        await using own = new AsyncDisposableStack();
        const connect = { ca: authority.cert, servername: servingHost, ...pair };
        const agent = own.adopt(new Agent({ connect: { ...connect, timeout: podsMs } }), (made) => made.destroy());
        const [key, cert] = pair === undefined ? [null, null] : [Buffer.from(pair.key), Buffer.from(pair.cert)];
        using channel = createClient(
          GRPCInferenceService,
          `${grpc.host}:${grpc.port}`,
          credentials.createSsl(Buffer.from(authority.cert), key, cert),
          { channel: { "grpc.ssl_target_name_override": servingHost } },
        );
        const overRest: string = await callers.askRest(rest, undefined, agent).catch(() => "no connection");
        const overGrpc: string = await callers.askGrpc(channel, undefined);
        assert.deepEqual({ rest: overRest, grpc: overGrpc }, expected);
      }
    }
  });
});
