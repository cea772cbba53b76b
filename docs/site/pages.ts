// Owns which pages the documentation has, in their order, and what each is for in a few words. The index in docs/README.md
// and the site's navigation are made from it.

export interface Page {
  /** In docs/, or from the root where it says `../`. */
  readonly file: string;
  readonly title: string;
  readonly says: string;
}

export interface Part {
  readonly title: string;
  readonly pages: readonly Page[];
}

export const parts: readonly Part[] = [
  {
    title: "Start here",
    pages: [
      { file: "../README.md", title: "What Warmpath is", says: "what it does, its state, what was measured" },
      { file: "quickstart.md", title: "Quick start", says: "ten minutes on one machine, word by word" },
      { file: "concepts.md", title: "Concepts", says: "hits, misses, pods, placement, in drawings" },
      { file: "clients.md", title: "Clients", says: "how to call models: gRPC, REST V1 and V2, OpenAI-style" },
      { file: "glossary.md", title: "Words", says: "the words that all pages use" },
    ],
  },
  {
    title: "Use it",
    pages: [
      { file: "install.md", title: "Install on Kubernetes", says: "from an empty namespace to a model that answers" },
      { file: "kubernetes.md", title: "Kubernetes", says: "objects, states, pods of runtimes" },
      { file: "migrate.md", title: "Moving from ModelMesh", says: "what stays, what differs" },
      { file: "predecessor.md", title: "ModelMesh's defects", says: "and the tests that hold them back" },
      { file: "management-api.md", title: "Management API", says: "register, watch, load, explain" },
      { file: "revisions.md", title: "Revisions", says: "change a model, roll back, split, mirror" },
      { file: "runtimes.md", title: "Runtimes", says: "model servers and how they are spoken to" },
      { file: "storage.md", title: "Storage", says: "where artefacts come from" },
      { file: "scaling.md", title: "Scaling", says: "placement, copies, priorities, drains" },
      { file: "fleet.md", title: "Fleet", says: "many gateways and pods over etcd" },
    ],
  },
  {
    title: "Run it",
    pages: [
      { file: "operations.md", title: "Operations", says: "sizing, upgrades, backup, what to look at" },
      { file: "observability.md", title: "Observability", says: "metrics, traces, slow requests, logs" },
      { file: "page.md", title: "The live page", says: "the fleet in a browser" },
      { file: "runbook.md", title: "Runbook", says: "what each alert means and what to do" },
      { file: "security.md", title: "Security", says: "who may do what, and how it is held" },
    ],
  },
  {
    title: "Look it up",
    pages: [
      { file: "cli.md", title: "Commands", says: "every command and option, generated" },
      { file: "settings.md", title: "Settings", says: "every option of every process, every value of the chart, generated" },
      { file: "metrics.md", title: "Metrics", says: "every metric, generated" },
      { file: "errors.md", title: "Errors", says: "every error, generated" },
    ],
  },
  {
    title: "Understand it",
    pages: [
      { file: "architecture.md", title: "Architecture", says: "what is built, as it is built" },
      { file: "measured.md", title: "What was measured", says: "every benchmark, with plots, machine and command" },
      { file: "decisions/README.md", title: "Decisions", says: "what was chosen, and why" },
    ],
  },
];

/** The tables of docs/README.md. */
export function describeIndex(): string {
  return parts
    .map(({ title, pages }) => {
      const rows = pages.map((page) => `| [${page.title}](${page.file}) | ${page.says} |`);
      return [`| ${title.toLowerCase()} | what |`, "| --- | --- |", ...rows, ""].join("\n");
    })
    .join("\n");
}

/** The list of docs/decisions/README.md: files by number, each with its title. */
export function describeDecisions(decisions: readonly { readonly file: string; readonly title: string }[]): string {
  const lines = decisions.map(({ file, title }) => `- ${file.slice(0, 4)} [${title}](${file})`);
  return `${lines.join("\n")}\n`;
}
