// The samples that ModelMesh ships, written afresh from the documented fields, applied unchanged beside the chart's runtimes: each
// is taken as it is and gets to where it got there. Their artefacts lie in S3, under the key that the samples name.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { openRunFolder } from "#platform/tempdir.ts";
import { findLibrary } from "../harness/setup.ts";
import { openMoto } from "../storage/servers.ts";
import { chartFolder } from "./harness/crds.ts";
import { type KubeValue, runCommand } from "./harness/kubectl.ts";
import { findHelm, whyNoControlPlane } from "./harness/programs.ts";
import { openServed, type Served } from "./harness/served.ts";

const skip = whyNoControlPlane() ?? false;
const bucket = "modelmesh-example-models";

/** Sample, format, path, and the runtime that it is to get; of the last one the fleet of this test has pods. */
const samples = [
  ["example-keras-mnist", "keras", "keras/mnist.h5", "triton-2.x"],
  ["example-lightgbm-mushrooms", "lightgbm", "lightgbm/mushrooms.bst", "mlserver-1.x"],
  ["example-openvino-mnist", "openvino_ir", "openvino/mnist", "ovms-1.x"],
  ["example-pytorch-cifar", "pytorch", "pytorch/cifar", "triton-2.x"],
  ["example-mar-mnist", "pytorch-mar", "pytorch-mar/mnist.mar", "torchserve-0.x"],
  ["example-sklearn-mnist-svm", "sklearn", "sklearn/mnist-svm.joblib", "mlserver-1.x"],
  ["example-tensorflow-mnist", "tensorflow", "tensorflow/mnist.savedmodel", "triton-2.x"],
  ["example-xgboost-mushrooms", "xgboost", "xgboost/mushrooms.json", "mlserver-1.x"],
  ["example-onnx-mnist", "onnx", "onnx/mnist.onnx", "onnx"],
] as const;

const mode = { "serving.kserve.io/deploymentMode": "ModelMesh" };
const inferenceService = (name: string, annotations: Readonly<Record<string, string>>, predictor: unknown): string =>
  JSON.stringify({
    apiVersion: "serving.kserve.io/v1beta1",
    kind: "InferenceService",
    metadata: { name, annotations: { ...mode, ...annotations } },
    spec: { predictor },
  });
const predictorOf = (name: string, spec: unknown): string =>
  JSON.stringify({ apiVersion: "serving.kserve.io/v1alpha1", kind: "Predictor", metadata: { name }, spec });

describe("the samples of the predecessor", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let it: Served;

  before(async () => {
    const moto = stack.use(await openMoto());
    const s3 = {
      type: "s3",
      access_key_id: "AKIAIOSFODNN7EXAMPLE",
      secret_access_key: "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
      endpoint_url: moto.url,
      region: "us-east-1",
      default_bucket: bucket,
    };
    const client = new S3Client({
      endpoint: moto.url,
      region: s3.region,
      forcePathStyle: true,
      credentials: { accessKeyId: s3.access_key_id, secretAccessKey: s3.secret_access_key },
    });
    stack.defer(() => client.destroy());
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
    const artefact = readFileSync(join(await findLibrary(), "models/iris/iris-t0001.onnx"));
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: "onnx/mnist.onnx", Body: artefact }));
    const storageConfig = join(stack.use(await openRunFolder()).path, "storage-config");
    await mkdir(storageConfig);
    await writeFile(join(storageConfig, "localMinIO"), JSON.stringify(s3));
    it = stack.use(await openServed({ storageConfig }));
    const args = ["template", "warmpath", chartFolder, "--namespace", "default", "--show-only", "templates/runtimes.yaml"];
    const { code, stdout, stderr } = await runCommand(await findHelm(), args);
    assert.equal(code, 0, stderr);
    await it.plane.kubectl.apply(stdout);
  });
  after(() => stack.disposeAsync());

  const selected = ({ conditions = [] }: KubeValue): string =>
    conditions.find(({ type }: { type: string }) => type === "RuntimeSelected")?.message ?? "";

  /** As the predecessor said it: loaded, or waiting for pods of its own runtime while another's are up. */
  async function reaches(kind: string, name: string, runtime: string): Promise<void> {
    const states = (seen: KubeValue): KubeValue => (kind === "isvc" ? (seen.modelStatus?.states ?? {}) : seen);
    const failure = (seen: KubeValue): KubeValue => (kind === "isvc" ? seen.modelStatus?.lastFailureInfo : seen.lastFailureInfo);
    const isThere = (seen: KubeValue): boolean =>
      runtime === "onnx" ? states(seen).activeModelState === "Loaded" : failure(seen)?.reason === "RuntimeUnhealthy";
    const seen = await it.until(kind, name, `gets ${runtime}`, isThere);
    const transition = kind === "isvc" ? seen.modelStatus.transitionStatus : seen.transitionStatus;
    assert.deepEqual([transition, states(seen).targetModelState], ["UpToDate", ""]);
    assert.match(selected(seen), new RegExp(`\\b${RegExp.escape(runtime)}\\b`));
    if (runtime === "onnx") return;
    assert.equal(states(seen).activeModelState, "Loading");
    assert.equal(failure(seen).message, "Waiting for supporting runtime Pod to become available");
  }

  for (const [sample, format, path, runtime] of samples) {
    test(`${sample}-isvc, its older form, and ${sample}-predictor`, async () => {
      const storage = { key: "localMinIO", path };
      await it.plane.kubectl.apply(inferenceService(`${sample}-isvc`, {}, { model: { modelFormat: { name: format }, storage } }));
      await it.plane.kubectl.apply(predictorOf(`${sample}-predictor`, { modelType: { name: format }, storage }));
      await it.plane.kubectl.apply(
        predictorOf(`${sample}-s3`, { modelType: { name: format }, path, storage: { s3: { secretKey: "localMinIO", bucket } } }),
      );
      await reaches("isvc", `${sample}-isvc`, runtime);
      await reaches("predictor", `${sample}-predictor`, runtime);
      await reaches("predictor", `${sample}-s3`, runtime);
    });
  }

  for (const framework of ["sklearn", "onnx"]) {
    const [, , path, runtime] = samples.find(([, format]) => format === framework) ?? samples[0];
    test(`an InferenceService with the block ${framework}, a storageUri and the annotation secretKey`, async () => {
      const notes = { "serving.kserve.io/secretKey": "localMinIO" };
      const storageUri = `s3://${bucket}/${path}`;
      await it.plane.kubectl.apply(inferenceService(`legacy-${framework}`, notes, { [framework]: { storageUri } }));
      await reaches("isvc", `legacy-${framework}`, runtime);
    });
  }

  test("the sample ServingRuntimes, one with an adapter of its own and one without a puller, can run", async () => {
    const container = {
      name: "server",
      image: "example.com/custom-server:1",
      resources: { requests: { cpu: "500m", memory: "1Gi" } },
    };
    const common = { multiModel: true, grpcEndpoint: "port:8085", grpcDataEndpoint: "port:8090", containers: [container] };
    for (const [name, spec] of [
      ["custom-runtime", { supportedModelFormats: [{ name: "custom-model", version: "1", autoSelect: true }], ...common }],
      [
        "pullerless",
        {
          supportedModelFormats: [{ name: "remote-model", version: "1", autoSelect: true }],
          storageHelper: { disabled: true },
          ...common,
        },
      ],
    ] as const) {
      await it.plane.kubectl.apply(
        JSON.stringify({ apiVersion: "serving.kserve.io/v1alpha1", kind: "ServingRuntime", metadata: { name }, spec }),
      );
      const valid = ({ conditions = [] }: KubeValue): KubeValue =>
        conditions.find(({ type }: { type: string }) => type === "Valid");
      const seen = await it.until("servingruntime", name, "is judged", (status) => valid(status) !== undefined);
      assert.equal(valid(seen).status, "True", JSON.stringify(seen));
    }
    await it.plane.kubectl.apply(
      predictorOf("custom", { modelType: { name: "custom-model" }, storage: { key: "localMinIO", path: "custom" } }),
    );
    await reaches("predictor", "custom", "custom-runtime");
    assert.notEqual(await it.plane.kubectl.get("deployment", "modelmesh-serving-custom-runtime"), undefined);
  });
});
