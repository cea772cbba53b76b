// Owns what the registry's keys mean: models under /models/, living pods under /pods/, living gateways under /gateways/.
// Values are JSON, parsed strictly; a record that does not parse is refused here, so that nothing else ever sees one.
import { z } from "zod";
import { type Model, parseModel } from "#core/model.ts";
import { putAll } from "./open.ts";
import type { DeleteResult, Entry, Lease, PutManyResult, PutResult, Registry } from "./registry.ts";

export const modelPrefix = "/models/";
export const podPrefix = "/pods/";
export const gatewayPrefix = "/gateways/";

export function modelKey(name: string): string {
  return `${modelPrefix}${name}`;
}

export function podKey(podId: string): string {
  return `${podPrefix}${podId}`;
}

/** A living pod, announced under a lease by its adapter. */
export interface PodPresence {
  readonly podId: string;
  /** Another one at each start of the adapter: a pod that came back is not the one that left. */
  readonly incarnation: string;
  /** Where gateways open their Link: `unix:/path` or `host:port`. */
  readonly linkAddress: string;
  readonly runtime: string;
}

export function gatewayKey(gatewayId: string): string {
  return `${gatewayPrefix}${gatewayId}`;
}

/** A living gateway, announced under a lease by itself. */
export interface GatewayPresence {
  readonly gatewayId: string;
  /** Another one at each start: a gateway that came back knows nothing of what it was asked before. */
  readonly incarnation: string;
  /** Where other gateways ask it for decisions on the models whose home it is: `host:port`. */
  readonly peerAddress: string;
}

export type Parsed<T> = { readonly kind: "ok"; readonly value: T } | { readonly kind: "refused"; readonly reason: string };

const podPresence: z.ZodType<PodPresence> = z
  .object({
    podId: z.string().min(1),
    incarnation: z.string().min(1),
    linkAddress: z.string().min(1),
    runtime: z.string().min(1),
  })
  .readonly();

const gatewayPresence: z.ZodType<GatewayPresence> = z
  .object({
    gatewayId: z.string().min(1),
    incarnation: z.string().min(1),
    peerAddress: z.string().min(1),
  })
  .readonly();

export function parseModelRecord(value: string): Parsed<Model> {
  const json = parseJson(value);
  if (json.kind === "refused") return json;
  const parsed = parseModel(json.value);
  return parsed.kind === "ok" ? { kind: "ok", value: parsed.model } : { kind: "refused", reason: parsed.reason };
}

export function parsePodRecord(value: string): Parsed<PodPresence> {
  return parseRecord(podPresence, value);
}

export function parseGatewayRecord(value: string): Parsed<GatewayPresence> {
  return parseRecord(gatewayPresence, value);
}

export interface StoredModel {
  readonly model: Model;
  /** The registry's revision, for `expect`; not a revision of the model. */
  readonly revision: number;
}

/** Throws when the stored record is malformed: somebody else wrote it. */
export async function getModel(registry: Registry, name: string): Promise<StoredModel | undefined> {
  const entry = await registry.get(modelKey(name));
  return entry === undefined ? undefined : { model: ofEntry(entry, parseModelRecord), revision: entry.revision };
}

export async function putModel(registry: Registry, model: Model, expect?: number | "absent"): Promise<PutResult> {
  return await registry.put(modelKey(model.name), JSON.stringify(model), { expect });
}

/** Whatever was registered under their names; in parts, so some may be registered when it fails. */
export async function putModels(registry: Registry, models: readonly Model[]): Promise<PutManyResult> {
  return await putAll(
    registry,
    models.map((model) => ({ key: modelKey(model.name), value: JSON.stringify(model) })),
  );
}

export async function deleteModel(registry: Registry, name: string, expect?: number): Promise<DeleteResult> {
  return await registry.delete(modelKey(name), { expect });
}

/** Writes the presence under the lease; it ends with it. */
export async function putPod(registry: Registry, pod: PodPresence, lease: Lease): Promise<PutResult> {
  return await registry.put(podKey(pod.podId), JSON.stringify(pod), { lease });
}

export async function putGateway(registry: Registry, gateway: GatewayPresence, lease: Lease): Promise<PutResult> {
  return await registry.put(gatewayKey(gateway.gatewayId), JSON.stringify(gateway), { lease });
}

/** `/models/a` -> `a`. */
export function nameOfKey(key: string, prefix: string): string {
  return key.slice(prefix.length);
}

function ofEntry<T>(entry: Entry, parse: (value: string) => Parsed<T>): T {
  const parsed = parse(entry.value);
  if (parsed.kind === "refused") throw new Error(`the registry holds a malformed record at ${entry.key}: ${parsed.reason}`);
  return parsed.value;
}

function parseRecord<T>(schema: z.ZodType<T>, value: string): Parsed<T> {
  const json = parseJson(value);
  if (json.kind === "refused") return json;
  const parsed = schema.safeParse(json.value);
  return parsed.success ? { kind: "ok", value: parsed.data } : { kind: "refused", reason: z.prettifyError(parsed.error) };
}

export function parseJson(value: string): Parsed<unknown> {
  try {
    const json: unknown = JSON.parse(value);
    return { kind: "ok", value: json };
  } catch {
    return { kind: "refused", reason: "not JSON" };
  }
}
