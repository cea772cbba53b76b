// Owns which kinds of objects the controller reads and writes, and the names that it gives them meaning by.
import type { ResourceType } from "./engine/objects.ts";

const serving = { group: "serving.kserve.io" } as const;
const named = { namespaced: true } as const;

export const servingRuntimes: ResourceType = {
  ...serving,
  ...named,
  version: "v1alpha1",
  plural: "servingruntimes",
  kind: "ServingRuntime",
};
export const clusterServingRuntimes: ResourceType = {
  ...serving,
  namespaced: false,
  version: "v1alpha1",
  plural: "clusterservingruntimes",
  kind: "ClusterServingRuntime",
};
export const inferenceServices: ResourceType = {
  ...serving,
  ...named,
  version: "v1beta1",
  plural: "inferenceservices",
  kind: "InferenceService",
};
export const predictors: ResourceType = { ...serving, ...named, version: "v1alpha1", plural: "predictors", kind: "Predictor" };
export const models: ResourceType = { ...named, group: "warmpath.dev", version: "v1alpha1", plural: "models", kind: "Model" };
export const accessPolicies: ResourceType = {
  ...named,
  group: "warmpath.dev",
  version: "v1alpha1",
  plural: "accesspolicies",
  kind: "AccessPolicy",
};

export const deployments: ResourceType = { ...named, group: "apps", version: "v1", plural: "deployments", kind: "Deployment" };
export const services: ResourceType = { ...named, group: "", version: "v1", plural: "services", kind: "Service" };
export const networkPolicies: ResourceType = {
  ...named,
  group: "networking.k8s.io",
  version: "v1",
  plural: "networkpolicies",
  kind: "NetworkPolicy",
};
export const podDisruptionBudgets: ResourceType = {
  ...named,
  group: "policy",
  version: "v1",
  plural: "poddisruptionbudgets",
  kind: "PodDisruptionBudget",
};
export const autoscalers: ResourceType = {
  ...named,
  group: "autoscaling",
  version: "v2",
  plural: "horizontalpodautoscalers",
  kind: "HorizontalPodAutoscaler",
};
export const pods: ResourceType = { ...named, group: "", version: "v1", plural: "pods", kind: "Pod" };
export const claims: ResourceType = {
  ...named,
  group: "",
  version: "v1",
  plural: "persistentvolumeclaims",
  kind: "PersistentVolumeClaim",
};
export const events: ResourceType = { ...named, group: "events.k8s.io", version: "v1", plural: "events", kind: "Event" };

/** Annotations and labels that users set. */
export const annotations = {
  deploymentMode: "serving.kserve.io/deploymentMode",
  secretKey: "serving.kserve.io/secretKey",
  schemaPath: "serving.kserve.io/schemaPath",
  servingRuntime: "serving.kserve.io/servingRuntime",
  autoscalerClass: "serving.kserve.io/autoscalerClass",
  metrics: "serving.kserve.io/metrics",
  targetUtilization: "serving.kserve.io/targetUtilizationPercentage",
  minScale: "serving.kserve.io/min-scale",
  maxScale: "serving.kserve.io/max-scale",
  maxLoadingConcurrency: "maxLoadingConcurrency",
  perModelConcurrencyLimit: "perModelConcurrencyLimit",
  shareProcessNamespace: "warmpath.dev/share-process-namespace",
  acceleratorMemory: "warmpath.dev/accelerator-memory",
  size: "warmpath.dev/size",
  minCopies: "warmpath.dev/min-copies",
  maxCopies: "warmpath.dev/max-copies",
  priority: "warmpath.dev/priority",
  pinned: "warmpath.dev/pinned",
} as const;

/** On what the controller makes. */
export const labels = {
  managedBy: "app.kubernetes.io/managed-by",
  runtime: "warmpath.dev/runtime",
  component: "warmpath.dev/component",
  service: "modelmesh-service",
  name: "name",
} as const;

export const manager = "warmpath-controller";
