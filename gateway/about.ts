// Owns the forms of what the server says of itself and of its models, over REST and gRPC alike.

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

/** The list, how many are too many for one answer, or too many lists asked for at once. */
export type Index =
  | { readonly kind: "ok"; readonly entries: readonly IndexEntry[] }
  | { readonly kind: "too-many"; readonly limit: number }
  | { readonly kind: "busy" };

/** Those that the caller may call; `principal`: as Envoy tells it, where callers prove who they are. */
export type ListIndex = (principal: string | undefined, which: "all" | "ready") => Promise<Index>;

export function tooMany(most: number): string {
  return `more than ${most} models are registered: list them by the management API`;
}

export const tooManyLists = "too many callers ask for lists of models at once";
