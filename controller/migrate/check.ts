// Owns what is said of a ModelMesh installation before it is moved: what will work as it is, what differs, what to change.
// Pure: objects in, findings out. It changes nothing, and repeats no value of a secret.
import { isRecord } from "#core/fields.ts";
import { type KubeObject, parseObject, record, text } from "../engine/objects.ts";
import { annotations } from "../kinds.ts";
import { selectRuntime } from "../model/selection.ts";
import { parseInferenceService, parsePredictor, type Source } from "../model/source.ts";
import { bindServer } from "../runtime/binding.ts";
import { parseRuntime, type Runtime } from "../runtime/runtime.ts";
import { type Finding, type Verdict, verdicts } from "./finding.ts";
import { checkSettings, storageSecretOf } from "./settings.ts";
import { checkArtefact, checkEntries, dataOf, readSettings, type StorageRules, type StorageSettings } from "./storage.ts";

export interface Report {
  readonly findings: readonly Finding[];
  readonly counts: Readonly<Record<Verdict, number>>;
}

const plainSecret = "storage-config";

/** What objects are compared with. */
interface Surroundings {
  readonly runtimes: readonly Runtime[];
  readonly settings: (namespace: string) => StorageSettings | undefined;
  readonly rules: StorageRules;
}

/** `values`: any objects of Kubernetes, those of other kinds too. Files may leave namespaces out: those are one namespace. */
export function checkMigration(values: readonly unknown[], rules: StorageRules): Report {
  const objects = values.flatMap((value) => parseObject(value) ?? []);
  const of = (kind: string): readonly KubeObject[] => objects.filter(({ body }) => body["kind"] === kind);
  const runtimes = [
    ...of("ServingRuntime").map((object): Runtime => ({ ...parseRuntime(object), namespace: object.metadata.namespace ?? "" })),
    ...of("ClusterServingRuntime").map((object): Runtime => ({ ...parseRuntime(object), namespace: undefined })),
  ];
  const secretNames = new Set([plainSecret, ...of("ConfigMap").flatMap((object) => storageSecretOf(object) ?? [])]);
  const isStorage = ({ metadata }: KubeObject): boolean => secretNames.has(metadata.name);
  const settings = new Map(
    of("Secret")
      .filter(isStorage)
      .map((object) => [object.metadata.namespace ?? "", readSettings(object)]),
  );
  const around: Surroundings = { runtimes, settings: (namespace) => settings.get(namespace), rules };
  const findings: Finding[] = [
    ...runtimes.map(checkRuntime),
    ...of("InferenceService").map((object) => checkInferenceService(object, around)),
    ...of("Predictor").map((object) => checkPredictor(object, around)),
    ...of("Secret").flatMap((object) => checkSecret(object, isStorage(object), rules)),
    ...of("ConfigMap").flatMap((object) => {
      const found = checkSettings(object);
      return found === undefined ? [] : [found];
    }),
    ...checkNames(objects),
  ];
  const order = (verdict: Verdict): number => verdicts.indexOf(verdict);
  const sorted = findings.toSorted(
    (one, other) => order(one.verdict) - order(other.verdict) || (nameOf(one) < nameOf(other) ? -1 : 1),
  );
  const counts = Object.fromEntries(
    verdicts.map((verdict) => [verdict, sorted.filter((finding) => finding.verdict === verdict).length]),
  );
  return { findings: sorted, counts: counts as Record<Verdict, number> };
}

/** As lines for people. */
export function describeReport({ findings, counts }: Report): string {
  const lines = findings.flatMap(({ verdict, kind, namespace, name, notes }) => [
    `${titles[verdict].padEnd(8)} ${kind} ${namespace === undefined || namespace === "" ? "" : `${namespace}/`}${name}`,
    ...notes.map((note) => `         - ${note}`),
  ]);
  const sum = verdicts.map((verdict) => `${counts[verdict]} ${says[verdict]}`).join(", ");
  return [...lines, findings.length === 0 ? "Nothing of a ModelMesh installation was found." : sum].join("\n");
}

const titles: Readonly<Record<Verdict, string>> = { change: "CHANGE", differs: "DIFFERS", works: "works", ignored: "ignored" };
const says: Readonly<Record<Verdict, string>> = {
  change: "to change",
  differs: "that will behave otherwise",
  works: "that will work as they are",
  ignored: "that are none of Warmpath's",
};

function nameOf({ kind, namespace, name }: Finding): string {
  return `${kind} ${namespace ?? ""}/${name}`;
}

function finding(
  object: Pick<KubeObject, "metadata">,
  kind: string,
  change: readonly string[],
  differs: readonly string[],
  fine: readonly string[] = [],
): Finding {
  const { name, namespace } = object.metadata;
  const verdict = change.length > 0 ? "change" : differs.length > 0 ? "differs" : "works";
  return { verdict, kind, namespace, name, notes: [...change, ...differs, ...fine] };
}

function checkRuntime(runtime: Runtime): Finding {
  const kind = runtime.namespace === undefined ? "ClusterServingRuntime" : "ServingRuntime";
  const at = { metadata: { name: runtime.name, namespace: runtime.namespace } } as Pick<KubeObject, "metadata">;
  if (!runtime.multiModel) {
    return {
      verdict: "ignored",
      kind,
      namespace: runtime.namespace,
      name: runtime.name,
      notes: ["it is for one model at a time (multiModel is not true)"],
    };
  }
  const differs: string[] = [];
  if (runtime.faults.length === 0) {
    const { changes } = bindServer(runtime);
    if (changes.length > 0) differs.push(`so that requests reach it without a proxy in the pod: ${changes.join("; ")}`);
  }
  if (runtime.serverType === "custom") {
    differs.push(
      "a custom model server must listen on every address of its pod, not on loopback alone: requests come from the gateways",
    );
  }
  differs.push(...runtime.unheeded);
  if (runtime.serverType === "custom" && runtime.httpDataEndpoint === undefined) {
    differs.push(
      "requests over REST are put into gRPC, as before, but texts in answers are texts and not base64; a model server that has REST itself is called there where httpDataEndpoint says its port",
    );
  }
  if (runtime.autoscaler !== undefined)
    differs.push("its HPA is kept; without the annotation Warmpath adds pods by queues and evictions itself");
  if (Object.keys(runtime.labels).some((label) => label === "modelmesh-service"))
    differs.push("the label modelmesh-service is Warmpath's own");
  const fetches = runtime.storageHelperDisabled && runtime.serverType === "custom";
  const fine = fetches ? ["as before, its model server gets storage key and path as they are, and fetches by itself"] : [];
  return finding(at, kind, runtime.faults, differs, fine);
}

function checkInferenceService(object: KubeObject, around: Surroundings): Finding {
  const kind = "InferenceService";
  const source = parseInferenceService(object);
  if (source === undefined) {
    const { name, namespace } = object.metadata;
    return {
      verdict: "ignored",
      kind,
      namespace,
      name,
      notes: [`it is not for ModelMesh (annotation ${annotations.deploymentMode})`],
    };
  }
  const spec = record(object.body["spec"]);
  const differs: string[] = [];
  const change: string[] = [];
  if (spec["transformer"] !== undefined)
    change.push("its transformer is deployed by KServe: keep KServe for it, and let it call the model by its name");
  if (spec["explainer"] !== undefined) change.push("explainers are not served, nor were they before");
  const predictor = record(spec["predictor"]);
  if (predictor["canaryTrafficPercent"] !== undefined)
    differs.push("canaryTrafficPercent had no effect in this mode and has none: use a Model (warmpath.dev) with a split");
  for (const field of ["minReplicas", "maxReplicas"]) {
    if (predictor[field] !== undefined)
      differs.push(
        `${field} had no effect in this mode and has none: see the annotations warmpath.dev/min-copies and max-copies`,
      );
  }
  return checkSource(object, kind, source, around, change, differs);
}

function checkPredictor(object: KubeObject, around: Surroundings): Finding {
  const spec = record(object.body["spec"]);
  const storage = record(spec["storage"]);
  const old = [
    ...(spec["path"] === undefined ? [] : ["path (now storage.path)"]),
    ...(spec["schemaPath"] === undefined ? [] : ["schemaPath (now storage.schemaPath)"]),
    ...(storage["s3"] === undefined ? [] : ["storage.s3 (now storage.key and storage.parameters)"]),
  ];
  const source = parsePredictor(object);
  const differs = source.invalid === undefined ? old.map((field) => `the deprecated ${field} still works`) : [];
  for (const field of ["gpu", "serviceAccountName"])
    if (spec[field] !== undefined) differs.push(`${field} had no effect and has none`);
  return checkSource(object, "Predictor", source, around, [], differs);
}

function checkSource(
  object: KubeObject,
  kind: string,
  source: Source,
  { runtimes, settings, rules }: Surroundings,
  change: string[],
  differs: string[],
): Finding {
  if (source.invalid !== undefined) {
    const silently = kind === "InferenceService" ? "; ModelMesh did not say so in its status" : "";
    return finding(object, kind, [...change, `${source.invalid}${silently}`], differs);
  }
  const fine: string[] = [];
  for (const revision of source.revisions) {
    const { namespace: own } = source;
    const visible = runtimes.filter(({ namespace = own }) => namespace === own || namespace === "" || own === "");
    const selection = selectRuntime(revision, visible);
    if (visible.length === 0)
      differs.push(`no runtime was given to compare with: see that one serves ${revision.format}, as the chart's own may`);
    else if (selection.kind === "none") change.push(`${selection.message}: ${selection.why}`);
    else {
      fine.push(selection.why);
      if (revision.runtime === undefined && / preferred to /.test(selection.why))
        differs.push(`ModelMesh placed it on any runtime that matched; here it is ${selection.runtime.name}, in KServe's order`);
    }
    const artefact = checkArtefact(revision, settings(own), rules);
    change.push(...artefact.change);
    differs.push(...artefact.differs);
  }
  return finding(object, kind, change, differs, fine);
}

/** Names of entries and of missing fields only. */
function checkSecret(object: KubeObject, isStorage: boolean, rules: StorageRules): readonly Finding[] {
  const data = dataOf(object);
  if (object.metadata.name === "model-serving-etcd" || data["etcd_connection"] !== undefined) {
    return [
      finding(
        object,
        "Secret",
        [],
        [
          "etcd's address is given to the chart (etcd.endpoints); the data in it is not used: everything is registered anew from the objects",
        ],
      ),
    ];
  }
  if (!isStorage) return [];
  const { name } = object.metadata;
  const count = Object.keys(data).length;
  const renamed = name === plainSecret ? [] : [`its name is given to the chart: storageSecretName=${name}`];
  return [finding(object, "Secret", checkEntries(object, rules), renamed, [`${count} entr${count === 1 ? "y" : "ies"}`])];
}

/** One name of two kinds in a namespace stands for one model only. */
function checkNames(objects: readonly KubeObject[]): readonly Finding[] {
  const names = new Map<string, KubeObject>();
  const found: Finding[] = [];
  for (const object of objects) {
    const { kind } = object.body;
    const isModel = kind === "Predictor" || (kind === "InferenceService" && parseInferenceService(object) !== undefined);
    if (!isModel) continue;
    const key = `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
    const other = names.get(key);
    if (other !== undefined && other.body["kind"] !== kind)
      found.push(
        finding(
          object,
          kind,
          [`the ${text(other.body["kind"]) ?? "object"} of the same name holds it: one of the two must have another name`],
          [],
        ),
      );
    names.set(key, object);
  }
  return found;
}

/** Documents hold objects, or lists of them; a list of one kind leaves it out of its items. */
export function listObjects(value: unknown): readonly unknown[] {
  const { items, kind } = record(value);
  if (!Array.isArray(items)) return [value];
  const each = /^(.+)List$/.exec(text(kind) ?? "")?.[1];
  return items.flatMap((item: unknown) =>
    listObjects(isRecord(item) && item["kind"] === undefined && each !== undefined ? { ...item, kind: each } : item),
  );
}
