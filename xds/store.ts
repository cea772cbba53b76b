// Owns the encoded resources of clusters, routes and runtime: checked against Envoy's own rules, encoded once, with a
// version made from the content, so that a gateway started anew agrees with what Envoy already has.
import { createHash } from "node:crypto";
import { type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { TypeUrl } from "./typeurls.ts";

/** A resource as it goes over the wire, without its Any. */
export interface EncodedResource {
  readonly version: string;
  readonly bytes: Uint8Array;
}

/** Throws when Envoy's rules refuse the message: a fault of ours, which must not reach Envoy. */
export type CheckResource = <Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>) => void;

export type OnChange = (typeUrl: TypeUrl, names: readonly string[]) => void;

export interface ResourceStore {
  get(name: string): EncodedResource | undefined;
  names(): Iterable<string>;
  /** Encoded anew only when something else is wanted under the name. */
  put<Desc extends DescMessage>(schema: Desc, name: string, message: MessageShape<Desc>): void;
  drop(name: string): void;
}

export function createResourceStore(typeUrl: TypeUrl, onChange: OnChange, check: CheckResource): ResourceStore {
  const resources = new Map<string, EncodedResource>();
  return {
    get: (name) => resources.get(name),
    names: () => resources.keys(),
    put(schema, name, message) {
      const bytes = toBinary(schema, message);
      const version = createHash("sha256").update(bytes).digest("base64url").slice(0, 12);
      if (resources.get(name)?.version === version) return;
      check(schema, message);
      resources.set(name, { version, bytes });
      onChange(typeUrl, [name]);
    },
    drop(name) {
      if (resources.delete(name)) onChange(typeUrl, [name]);
    },
  };
}
