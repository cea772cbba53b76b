// Owns what the server says of itself and of its models, over REST and gRPC alike.
import type { Routes } from "./routes.ts";

export const serverMetadata = {
  name: "warmpath",
  version: "0.1.0",
  extensions: ["binary_tensor_data"],
} as const;

export interface IndexEntry {
  readonly name: string;
  readonly state: "READY" | "UNAVAILABLE";
  readonly reason: string;
}

/** All registered models, or how many are too many for one answer. */
export type Index =
  | { readonly kind: "ok"; readonly entries: readonly IndexEntry[] }
  | { readonly kind: "too-many"; readonly limit: number };

/** Those that the caller may call; `principal`: as Envoy tells it, where callers prove who they are. */
export type ListIndex = (principal: string | undefined, which: "all" | "ready") => Promise<Index>;

/** One answer holds so many: the management API lists any number in pages. */
const limit = 50_000;
const pageLimit = 10_000;

export interface IndexParts {
  readonly count: () => number;
  readonly names: (
    after: string | undefined,
    limit: number,
  ) => Promise<{ readonly names: readonly string[]; readonly more: boolean }>;
  readonly routes: Pick<Routes, "isRouted">;
  readonly mayCall: (principal: string | undefined, name: string) => boolean;
}

/** Only warm models are READY in the protocol's sense; a cold one is loaded by the first request for it. */
export function createIndex({ count, names, routes, mayCall }: IndexParts): ListIndex {
  return async (principal, which) => {
    if (count() > limit) return { kind: "too-many", limit };
    const entries: IndexEntry[] = [];
    for (let after: string | undefined, more = true; more; ) {
      const page = await names(after, pageLimit);
      for (const name of page.names) {
        if (!mayCall(principal, name)) continue;
        const warm = routes.isRouted(name);
        if (which === "ready" && !warm) continue;
        entries.push({ name, state: warm ? "READY" : "UNAVAILABLE", reason: warm ? "" : "cold: the first request loads it" });
      }
      after = page.names.at(-1);
      more = page.more && after !== undefined;
    }
    return { kind: "ok", entries };
  };
}

export function tooMany(most: number): string {
  return `more than ${most} models are registered: list them by the management API`;
}
