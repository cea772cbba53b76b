// Objects of Kubernetes, as their schemas let them through and as they never should: each becomes a record, pods, or a refusal
// in words. The controller does not fall over any of them, whatever stands in it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { z } from "zod";
import { storageRules } from "#cli/migrate/rules.ts";
import { parseObject } from "#controller/engine/objects.ts";
import { checkMigration } from "#controller/migrate/check.ts";
import { buildRecord } from "#controller/model/desired.ts";
import { parseInferenceService, parseModelObject, parsePredictor, type Source } from "#controller/model/source.ts";
import { buildPolicyStatus, parseAccessPolicy } from "#controller/policy/policy.ts";
import { bindServer } from "#controller/runtime/binding.ts";
import { buildRuntime, type RuntimeSettings } from "#controller/runtime/desired.ts";
import { parseRuntime } from "#controller/runtime/runtime.ts";
import { parseModel } from "#core/model.ts";
import { parsePolicyRecord } from "#platform/registry/accessrecords.ts";
import { mutated } from "./mutate.ts";

const numRuns = 2_000;
const metadata = (annotations: Readonly<Record<string, string>> = {}) => ({
  name: "m",
  namespace: "shop",
  uid: "u",
  generation: 2,
  creationTimestamp: "2026-01-01T00:00:00Z",
  labels: { team: "a" },
  annotations,
});
const bases = {
  InferenceService: {
    kind: "InferenceService",
    metadata: metadata({
      "serving.kserve.io/deploymentMode": "ModelMesh",
      "warmpath.dev/min-copies": "1",
      "warmpath.dev/max-copies": "3",
      "serving.kserve.io/secretKey": "k",
    }),
    spec: {
      predictor: {
        model: {
          modelFormat: { name: "onnx", version: "1" },
          protocolVersion: "v2",
          runtime: "r",
          storageUri: "s3://bucket/path",
          storage: { key: "k", path: "p", schemaPath: "s.json", parameters: { bucket: "b" } },
        },
      },
    },
    status: { conditions: [{ type: "Ready", status: "True" }], url: "grpc://x" },
  },
  Predictor: {
    kind: "Predictor",
    metadata: metadata(),
    spec: {
      modelType: { name: "sklearn", version: "0" },
      path: "a/b",
      storage: { s3: { secretKey: "k", bucket: "b" } },
      runtime: { name: "r" },
    },
  },
  AccessPolicy: {
    kind: "AccessPolicy",
    metadata: metadata(),
    spec: { callers: ["team-b", "authenticated"], models: { names: ["fraud-*"], labels: { stage: "prod" } } },
    status: { conditions: [{ type: "Accepted", status: "True" }] },
  },
  Model: {
    kind: "Model",
    metadata: metadata(),
    spec: {
      revisions: [
        { name: "v1", format: { name: "onnx" }, storageUri: "s3://b/v1", sizeHint: "1Gi", requiredLabels: { a: "b" } },
        { name: "v2", format: { name: "onnx" }, storageUri: "s3://b/v2", runtime: "r" },
      ],
      active: "v1",
      split: [{ revision: "v2", percent: 10 }],
      mirror: { revision: "v2", percent: 5 },
      minCopies: 1,
      maxCopies: 2,
      priority: "high",
      pinned: true,
    },
  },
  ServingRuntime: {
    kind: "ServingRuntime",
    metadata: metadata({
      "serving.kserve.io/min-scale": "0",
      "serving.kserve.io/max-scale": "3",
      "serving.kserve.io/autoscalerClass": "hpa",
    }),
    spec: {
      supportedModelFormats: [{ name: "onnx", version: "1", autoSelect: true }],
      protocolVersions: ["grpc-v2"],
      multiModel: true,
      grpcEndpoint: "port:8085",
      grpcDataEndpoint: "port:8001",
      httpDataEndpoint: "port:8002",
      replicas: 2,
      builtInAdapter: {
        serverType: "triton",
        runtimeManagementPort: 8001,
        memBufferBytes: 1_000,
        modelLoadingTimeoutMillis: 1_000,
        env: [{ name: "A", value: "b" }],
      },
      containers: [
        {
          name: "triton",
          image: "i",
          args: ["a"],
          env: [{ name: "X", value: "y" }],
          resources: { limits: { memory: "1Gi", cpu: "500m" } },
          livenessProbe: { exec: { command: ["a"] } },
        },
      ],
      volumes: [{ name: "v", emptyDir: {} }],
      nodeSelector: { a: "b" },
      tolerations: [{ key: "k", operator: "Exists" }],
      labels: { a: "b" },
      annotations: { a: "b" },
      imagePullSecrets: [{ name: "s" }],
    },
  },
} as const;

function tryRecord(source: Source | undefined): void {
  if (source === undefined) return;
  if (source.invalid !== undefined) {
    assert.equal(source.revisions.length, 0);
    assert.ok(source.invalid.length > 0 && source.invalid.length < 1_000);
    return;
  }
  const placed = source.revisions.map((revision) => ({ revision, runtime: "onnx", formatVersion: undefined }));
  const built = buildRecord(source, placed, undefined, 1_000);
  if (built.kind === "refused") assert.ok(built.reason.length > 0 && built.reason.length < 1_000);
  if (built.kind !== "ok") return;
  const again = parseModel(JSON.parse(JSON.stringify(built.model)));
  assert.ok(again.kind === "ok", "what it writes can be read");
  assert.equal(built.model.tenant, source.namespace);
  const unchanged = buildRecord(source, placed, built.model, 2_000);
  assert.ok(unchanged.kind === "ok" && unchanged.model === built.model, "and stays as it is");
}

/** Whatever stands in it, it opens models of its own namespace alone. */
function tryPolicy(object: NonNullable<ReturnType<typeof parseObject>>): void {
  const source = parseAccessPolicy(object);
  assert.equal(source.value === undefined, source.invalid !== undefined);
  JSON.stringify(buildPolicyStatus(source, { refused: undefined, isEnforced: true }, 1));
  if (source.value === undefined) return;
  const parsed = parsePolicyRecord("p", source.value);
  assert.ok(parsed.kind === "ok", "what it writes can be read");
  assert.equal(parsed.value.models.tenant, source.namespace);
}

function tryRuntime(object: NonNullable<ReturnType<typeof parseObject>>): void {
  const runtime = parseRuntime(object);
  for (const fault of runtime.faults) assert.ok(fault.length > 0 && fault.length < 1_000);
  if (runtime.faults.length > 0) return;
  bindServer(runtime);
  JSON.stringify(buildRuntime(runtime, settings, 1, ["claim"]));
}

/** As the controller's tests of pods have them. */
const settings: RuntimeSettings = {
  namespace: "models",
  serviceName: "modelmesh-serving",
  image: "warmpath/warmpath:1",
  imagePullPolicy: "IfNotPresent",
  imagePullSecrets: [{ name: "registry" }],
  registryFlags: ["--registry", "etcds://etcd:2379/warmpath/models"],
  etcdSecret: "etcd-client",
  peerSecret: "adapter-peer",
  storageSecret: "storage-config",
  podsPerRuntime: 2,
  serviceAccount: "runtimes",
  adapterResources: { requests: { cpu: "50m", memory: "128Mi" } },
  podLabels: { team: "models" },
  podAnnotations: { scrape: "yes" },
  restricted: true,
  logLevel: "info",
  gatewayLabels: { "app.kubernetes.io/component": "gateway" },
  drainSeconds: 15,
};

function tryObject(value: unknown): void {
  const object = parseObject(value);
  if (object === undefined) return;
  tryRecord(parseInferenceService(object));
  tryRecord(parsePredictor(object));
  tryRecord(parseModelObject(object));
  tryPolicy(object);
  tryRuntime(object);
}

const corpus = z
  .array(z.object({ name: z.string(), object: z.unknown() }))
  .parse(JSON.parse(readFileSync(new URL("corpus/crds.json", import.meta.url), "utf8")));

describe("objects of Kubernetes", () => {
  for (const { name, object } of corpus) test(`of the corpus: ${name}`, () => tryObject(object));

  for (const [kind, base] of Object.entries(bases)) {
    test(`${kind}: ${numRuns} that are nearly right`, () => {
      fc.assert(fc.property(mutated(base), tryObject), { numRuns });
    });
  }

  test("whatever else is none, or becomes one", () => {
    fc.assert(fc.property(fc.oneof(fc.anything(), fc.record({ metadata: fc.anything(), spec: fc.anything() })), tryObject), {
      numRuns,
    });
  });

  test("the migration check reads all of them too", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(...Object.values(bases).map(mutated), fc.anything()), { maxLength: 4 }), (values) => {
        checkMigration(values, storageRules);
      }),
      { numRuns: 2_000 },
    );
  });
});
