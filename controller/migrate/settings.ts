// Owns what becomes of the predecessor's settings (ConfigMap model-serving-config): each key's value in the chart. Pure.
import { parse } from "yaml";
import { isRecord } from "#core/fields.ts";
import { type KubeObject, record, text, texts } from "../engine/objects.ts";
import type { Finding } from "./finding.ts";

/** Key in lower case -> what it is now; undefined when it needs nothing. */
const keys: Readonly<Record<string, string | undefined>> = {
  inferenceservicename: "service.name",
  inferenceserviceport: "service.grpcPort",
  podsperruntime: "podsPerRuntime",
  headlessservice: "service.headless",
  storagesecretname: "storageSecretName",
  serviceaccountname: "runtimeServiceAccount",
  "tls.secretname": "tls.secretName",
  "tls.clientauth": "tls.clientAuth (require; optional has no counterpart)",
  grpcmaxmessagesizebytes: "16 MiB, as it was by default",
  enableaccesslogging: undefined,
  "metrics.enabled": "metrics.service.enabled; the management service and runtimes' pods tell them always",
  "metrics.port": "metrics.service.port",
  "metrics.scheme": "https by the Service, http in runtimes' pods",
  "metrics.disableprometheusoperatorsupport": "metrics.serviceMonitor.enabled",
  "scaletozero.enabled": "scaleToZero.enabled",
  "scaletozero.graceperiodseconds": "scaleToZero.gracePeriodSeconds",
  "restproxy.enabled": "always on: REST is served by Envoy",
  "restproxy.port": "service.httpPort",
  "restproxy.skipverify": undefined,
  "restproxy.image": undefined,
  "restproxy.resources": "envoy.resources",
  modelmeshimage: undefined,
  modelmeshresources: undefined,
  storagehelperimage: undefined,
  storagehelperresources: "adapter.resources",
  runtimepodlabels: "runtimePodLabels",
  runtimepodannotations: "runtimePodAnnotations",
  imagepullsecrets: "imagePullSecrets",
  allowanypvc: "allowAnyPVC",
  builtinservertypes: "fixed: onnx, mlserver, triton, ovms, torchserve",
  payloadprocessors: "not there",
  etcdsecretname: "etcd.endpoints and etcd.secretName",
  internalmodelmeshenvvars: "not there",
  modelmeshendpoint: "not there",
};

/** The name of the secret with the storage settings, where these settings say one. */
export function storageSecretOf(object: KubeObject): string | undefined {
  const settings = readSettings(object);
  if (settings?.kind !== "ok" || !isRecord(settings.value)) return undefined;
  return text(Object.entries(settings.value).find(([key]) => key.toLowerCase() === "storagesecretname")?.[1]);
}

/** Undefined when the object holds no settings of ModelMesh. */
function readSettings({
  metadata,
  body,
}: KubeObject): { readonly kind: "ok"; readonly value: unknown } | { readonly kind: "malformed" } | undefined {
  if (!/^model-serving-config(?:-defaults)?$/.test(metadata.name)) return undefined;
  const [file = ""] = Object.entries(texts(record(body["data"]))).flatMap(([key, value]) =>
    /config.*\.ya?ml$/.test(key) ? [value] : [],
  );
  try {
    return { kind: "ok", value: parse(file) };
  } catch {
    return { kind: "malformed" };
  }
}

export function checkSettings(object: KubeObject): Finding | undefined {
  const { name, namespace } = object.metadata;
  const settings = readSettings(object);
  if (settings === undefined) return undefined;
  if (settings.kind === "malformed") {
    return { verdict: "change", kind: "ConfigMap", namespace, name, notes: ["its settings are no YAML"] };
  }
  const notes: string[] = [];
  const unknown: string[] = [];
  for (const path of pathsOf(settings.value)) {
    const key = Object.keys(keys).find((known) => path.toLowerCase() === known || path.toLowerCase().startsWith(`${known}.`));
    if (key === undefined) unknown.push(`the setting ${path} is unknown`);
    else notes.push(keys[key] === undefined ? `${path} is not needed any more` : `${path}: ${keys[key]}`);
  }
  return {
    verdict: "differs",
    kind: "ConfigMap",
    namespace,
    name,
    notes: ["settings are values of the chart now", ...notes, ...unknown],
  };
}

/** `scaleToZero.enabled` and so on; lists and texts are leaves. */
function pathsOf(value: unknown, before = ""): readonly string[] {
  if (!isRecord(value)) return before === "" ? [] : [before];
  return Object.entries(value).flatMap(([key, inner]) => pathsOf(inner, before === "" ? key : `${before}.${key}`));
}
