// Owns what is said of one object of a ModelMesh installation.

/** In the order of how much they ask of the reader. */
export const verdicts = ["change", "differs", "works", "ignored"] as const;

export type Verdict = (typeof verdicts)[number];

export interface Finding {
  readonly verdict: Verdict;
  readonly kind: string;
  readonly namespace: string | undefined;
  readonly name: string;
  /** One sentence each. */
  readonly notes: readonly string[];
}
