// Owns what every Kubernetes object has in common, read from JSON that anybody may have written.
// Invariant: nothing beyond these fields is believed; what a kind says itself is parsed in that kind's own folder.
import { isRecord } from "#core/fields.ts";

export interface ResourceType {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace: string | undefined;
  readonly uid: string;
  readonly resourceVersion: string;
  /** 0 for kinds that do not count theirs. */
  readonly generation: number;
  readonly creationTimestamp: string | undefined;
  readonly deletionTimestamp: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly finalizers: readonly string[];
  /** Who has set `spec.replicas`, by the names under which they write. */
  readonly scaledBy: readonly string[];
}

export interface KubeObject {
  readonly metadata: ObjectMeta;
  /** The whole object as it came, without the fields that only the API server reads. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** What names an object within its kind: `namespace/name`, or `name` alone for cluster-wide kinds. */
export function keyOf({ namespace, name }: Pick<ObjectMeta, "namespace" | "name">): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** Undefined when it is no object of Kubernetes. */
export function parseObject(value: unknown): KubeObject | undefined {
  if (!isRecord(value) || !isRecord(value["metadata"])) return undefined;
  const { managedFields, ...meta } = value["metadata"];
  const name = text(meta["name"]);
  if (name === undefined) return undefined;
  const generation = meta["generation"];
  const finalizers: unknown = meta["finalizers"];
  return {
    metadata: {
      name,
      namespace: text(meta["namespace"]),
      uid: text(meta["uid"]) ?? "",
      resourceVersion: text(meta["resourceVersion"]) ?? "",
      generation: typeof generation === "number" ? generation : 0,
      creationTimestamp: text(meta["creationTimestamp"]),
      deletionTimestamp: text(meta["deletionTimestamp"]),
      labels: texts(meta["labels"]),
      annotations: texts(meta["annotations"]),
      finalizers: Array.isArray(finalizers) ? finalizers.filter((each): each is string => typeof each === "string") : [],
      scaledBy: scalersOf(managedFields),
    },
    body: { ...value, metadata: meta },
  };
}

/** https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management */
function scalersOf(managedFields: unknown): readonly string[] {
  const scalers = list(managedFields)
    .map(record)
    .filter(({ fieldsV1 }) => "f:replicas" in record(record(fieldsV1)["f:spec"]))
    .map(({ manager }) => text(manager) ?? "");
  return [...new Set(scalers)];
}

export function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

export function record(value: unknown): Readonly<Record<string, unknown>> {
  return isRecord(value) ? value : {};
}

export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The entries whose values are texts. */
export function texts(value: unknown): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(record(value)).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** `/apis/GROUP/VERSION/namespaces/NS/PLURAL/NAME/SUBRESOURCE`, as far as it goes. */
export function pathOf(type: ResourceType, namespace?: string, name?: string, subresource?: string): string {
  const parts = [type.group === "" ? "/api" : `/apis/${type.group}`, type.version];
  if (type.namespaced && namespace !== undefined) parts.push("namespaces", namespace);
  parts.push(type.plural);
  if (name !== undefined) parts.push(encodeURIComponent(name));
  if (subresource !== undefined) parts.push(subresource);
  return parts.join("/");
}

export function apiVersionOf({ group, version }: ResourceType): string {
  return group === "" ? version : `${group}/${version}`;
}
