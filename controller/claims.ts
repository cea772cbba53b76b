// Owns which persistent volume claims a runtime's pods mount: those of the storage settings, and those that models name if
// that is allowed. One that is not there is left out, so that it keeps no pod from starting; the models that need it say so.
import { z } from "zod";
import type { Clock } from "#platform/clock.ts";
import { parseJson } from "#platform/json.ts";
import type { KubeClient } from "./engine/client.ts";
import { type ResourceType, record, texts } from "./engine/objects.ts";
import { claims as claimType } from "./kinds.ts";
import type { Uses } from "./uses.ts";

const secrets: ResourceType = { group: "", version: "v1", plural: "secrets", kind: "Secret", namespaced: true };

export interface Claims {
  /** In a steady order. What is mounted stays so while it is there: to take it away would start every pod anew. */
  of(runtime: string, mounted: readonly string[]): Promise<readonly string[]>;
}

const entry = z.looseObject({ type: z.literal("pvc"), name: z.string().regex(/^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/) });
const freshMs = 10_000;
const maxClaims = 64;

export function createClaims(parts: {
  readonly client: Pick<KubeClient, "get">;
  readonly namespace: string;
  readonly secret: string;
  readonly allowAny: boolean;
  readonly uses: Pick<Uses, "claims">;
  readonly clock: Clock;
}): Claims {
  const { client, namespace, clock } = parts;
  let settings: { readonly atMs: number; readonly names: Promise<readonly string[]> } | undefined;
  const there = new Map<string, { readonly atMs: number; readonly is: Promise<boolean> }>();

  /** One entry that cannot be read is none of the others' business. */
  async function readSettings(): Promise<readonly string[]> {
    const secret = await client.get(secrets, namespace, parts.secret);
    return Object.values(texts(record(secret?.body["data"]))).flatMap((value) => {
      const parsed = entry.safeParse(parseJson(Buffer.from(value, "base64").toString("utf8")));
      return parsed.success ? [parsed.data.name] : [];
    });
  }

  async function exists(claim: string): Promise<boolean> {
    const known = there.get(claim);
    if (known !== undefined && clock.monotonicMs() - known.atMs < freshMs) return await known.is;
    const is = client
      .get(claimType, namespace, claim)
      .then((found) => found !== undefined && found.metadata.deletionTimestamp === undefined);
    is.catch(() => there.delete(claim));
    there.set(claim, { atMs: clock.monotonicMs(), is });
    return await is;
  }

  return {
    async of(runtime, mounted) {
      if (settings === undefined || clock.monotonicMs() - settings.atMs >= freshMs) {
        const names = readSettings();
        names.catch(() => (settings = undefined));
        settings = { atMs: clock.monotonicMs(), names };
      }
      const named = parts.allowAny ? parts.uses.claims(runtime) : [];
      const wanted = new Set([...(await settings.names), ...named, ...mounted]);
      const sorted = [...wanted].sort().slice(0, maxClaims);
      const found = await Promise.all(sorted.map(exists));
      return sorted.filter((_, at) => found[at]);
    },
  };
}
