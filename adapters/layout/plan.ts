// Owns what a layout is: from the names in an artefact (and the few texts in it that matter) to the tree that a model
// server wants to see. Layouts are pure; tree.ts reads artefacts and makes the trees.
// Invariants: every `to` and `from` is a relative path without `..`; a layout that could mean several things is refused in
// words, never guessed.

export interface Artefact {
  readonly kind: "file" | "folder";
  /** Its last name: of the file, or of the folder. */
  readonly name: string;
  /** The files in a folder, relative to it, sorted; of a single file, its name. */
  readonly files: readonly string[];
  /** What is in those files that a layout may want to read. */
  readonly texts: ReadonlyMap<string, string>;
}

export type Entry =
  /** A file of the artefact, under another name or in another place. */
  | { readonly kind: "link"; readonly to: string; readonly from: string }
  | { readonly kind: "text"; readonly to: string; readonly text: string };

export interface Refused {
  readonly kind: "refused";
  /** For people. */
  readonly reason: string;
}

export type Plan = { readonly kind: "ok"; readonly entries: readonly Entry[] } | Refused;

export interface LayoutRequest {
  readonly artefact: Artefact;
  readonly format: string;
  /** Relative to the artefact. */
  readonly schemaPath?: string;
}

export function refuse(reason: string): Refused {
  return { kind: "refused", reason };
}

export function link(from: string, to: string): Entry {
  return { kind: "link", to, from };
}

/** Renaming may have given two files one place. */
export function checkPlan(plan: Plan): Plan {
  if (plan.kind === "refused") return plan;
  const places = new Set<string>();
  for (const { to } of plan.entries) {
    if (places.has(to)) return refuse(`two files of the artefact would both be ${to}`);
    places.add(to);
  }
  return plan;
}

/** One line for each entry, sorted: what tests compare. */
export function describePlan(plan: Plan): string {
  if (plan.kind === "refused") return `refused: ${plan.reason}\n`;
  return plan.entries
    .toSorted((a, b) => (a.to < b.to ? -1 : 1))
    .map((entry) => {
      if (entry.kind === "link") return `${entry.to} -> ${entry.from}\n`;
      const lines = entry.text.trimEnd().split("\n");
      return `${entry.to}:\n${lines.map((line) => `  ${line}`.trimEnd()).join("\n")}\n`;
    })
    .join("");
}
