// The controller with exactly the rights that the chart gives it: all it does works, everything else is refused.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";
import { openController } from "./harness/controller.ts";
import { type ControlPlane, openControlPlane } from "./harness/controlplane.ts";
import { applyCrds, chartFolder } from "./harness/crds.ts";
import { createKubectl, type Kubectl, runCommand } from "./harness/kubectl.ts";
import { buildInferenceService, onnxRuntime } from "./harness/objects.ts";
import { findHelm, findPrograms, whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const waitMs = 60_000;
const account = "warmpath-controller";

describe("the chart's account", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let plane: ControlPlane;
  let fleet: TestFleet;
  let kubeconfig: string;
  let asAccount: Kubectl;

  before(async () => {
    plane = stack.use(await openControlPlane());
    await applyCrds(plane.kubectl);
    const args = ["template", "warmpath", chartFolder, "--namespace", "default", "--show-only", "templates/rbac.yaml"];
    const { code, stdout, stderr } = await runCommand(await findHelm(), args);
    assert.equal(code, 0, stderr);
    await plane.kubectl.apply(stdout);
    const token = (await plane.kubectl("create", "token", account)).trim();
    kubeconfig = await plane.kubeconfigFor("account", token);
    asAccount = createKubectl(join(await findPrograms(), "kubectl"), kubeconfig);
    fleet = stack.use(await openFleet({ pods: 1 }));
    await fleet.whenServing();
  });
  after(() => stack.disposeAsync());

  test("is enough for a whole life of a model and its runtime", async () => {
    await using controller = await openController({ kubeconfig, registryFile: fleet.registryFile, gatewayUrl: fleet.adminUrl });
    await controller.synced;
    const artefact = pathToFileURL(join(fleet.libraryFolder, "models/iris/iris-t0001.onnx")).href;
    await plane.kubectl.apply(onnxRuntime("onnx", {}, { "serving.kserve.io/autoscalerClass": "hpa" }));
    await plane.kubectl.apply(buildInferenceService("within", artefact));
    await waitUntil(
      "loaded",
      () => plane.kubectl.get("isvc", "within"),
      (it) => it?.status?.modelStatus?.states?.activeModelState === "Loaded",
      waitMs,
    );
    for (const kind of ["deployment", "service", "networkpolicy", "poddisruptionbudget", "hpa"])
      await waitUntil(
        kind,
        () => plane.kubectl.get(kind, "modelmesh-serving-onnx"),
        (it) => it !== undefined,
        waitMs,
      );
    await waitUntil(
      "the runtime's status",
      () => plane.kubectl.get("servingruntime", "onnx"),
      (it) => it?.status?.conditions !== undefined,
      waitMs,
    );
    await plane.kubectl("delete", "servingruntime", "onnx");
    await waitUntil(
      "its pods are gone",
      () => plane.kubectl.get("deployment", "modelmesh-serving-onnx"),
      (it) => it === undefined,
      waitMs,
    );
    await plane.kubectl("delete", "isvc", "within");
    const forbidden = controller.log.lines.filter(({ keys }) => /forbidden/i.test(JSON.stringify(keys)));
    assert.deepEqual(forbidden, []);
  });

  test("reads no secret but the storage settings, and writes nothing of users but status", async () => {
    const refused: readonly (readonly string[])[] = [
      ["get", "secret", "another"],
      ["get", "secrets"],
      ["get", "configmaps"],
      ["get", "secrets", "--namespace", "kube-system"],
      ["get", "isvc", "--namespace", "kube-system"],
      ["delete", "isvc", "any"],
      ["delete", "servingruntime", "any"],
      ["delete", "pod", "any"],
      ["delete", "clusterservingruntime", "any"],
      ["create", "namespace", "any"],
      ["get", "nodes"],
      ["annotate", "isvc", "any", "a=b"],
    ];
    await plane.kubectl.apply(buildInferenceService("any", "s3://a/b"));
    for (const args of refused) {
      const { code, stderr } = await asAccount.run(args);
      assert.notEqual(code, 0, args.join(" "));
      assert.match(stderr, /[Ff]orbidden/, args.join(" "));
    }
    const { stderr } = await asAccount.run(["get", "secret", "storage-config"]);
    assert.match(stderr, /NotFound/);
  });
});
