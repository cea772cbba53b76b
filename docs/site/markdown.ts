// Owns how a page of Markdown becomes HTML: headings that can be linked to under the names that GitHub gives them, links as
// the site has them, and the plain text of each part for the search.
import markdownit from "markdown-it";

export interface Heading {
  readonly level: number;
  readonly id: string;
  readonly text: string;
}

export interface Rendered {
  readonly title: string;
  readonly html: string;
  readonly headings: readonly Heading[];
  /** What stands below each heading, without marks. */
  readonly texts: ReadonlyMap<string, string>;
}

type Token = ReturnType<ReturnType<typeof markdownit>["parse"]>[number];

export function createRenderer(linkOf: (link: string) => string): (text: string) => Rendered {
  // Comments in the pages are marks for those who generate parts of them.
  const markdown = markdownit({ html: true, linkify: false, typographer: false });
  const { rules } = markdown.renderer;
  // What may be wider than the page moves by itself, by keyboard too.
  rules["table_open"] = () => '<div class="wide" tabindex="0"><table>\n';
  rules["table_close"] = () => "</table></div>\n";
  const fence = rules["fence"];
  rules["fence"] = (...args) => (fence?.(...args) ?? "").replace("<pre>", '<pre tabindex="0">');
  return (text) => {
    const tokens = markdown.parse(text, {});
    const headings: Heading[] = [];
    const texts = new Map<string, string>();
    const ids = new Set<string>();
    for (const [at, token] of tokens.entries()) {
      relink(token, linkOf);
      if (token.type === "heading_open") {
        const plain = plainOf(tokens[at + 1]);
        const id = unique(headingId(plain), ids);
        token.attrSet("id", id);
        headings.push({ level: Number(token.tag.slice(1)), id, text: plain });
      } else if (token.type === "inline" || token.type === "fence" || token.type === "code_block") {
        const { id = "" } = headings.at(-1) ?? {};
        texts.set(id, `${texts.get(id) ?? ""} ${token.type === "inline" ? plainOf(token) : token.content}`.trim());
      }
      if (token.type === "th_open") token.attrSet("scope", "col");
    }
    const [first] = headings;
    return { title: first?.text ?? "", html: markdown.renderer.render(tokens, markdown.options, {}), headings, texts };
  };
}

function relink(token: Token, linkOf: (link: string) => string): void {
  for (const child of token.children ?? []) {
    for (const name of ["href", "src"]) {
      const link = child.attrGet(name);
      if (link !== null) child.attrSet(name, linkOf(String(link)));
    }
  }
}

function plainOf(token: Token | undefined): string {
  return (token?.children ?? []).map(({ type, content }) => (type === "softbreak" ? " " : content)).join("");
}

/** As GitHub makes them. */
export function headingId(title: string): string {
  return title
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
}

function unique(id: string, taken: Set<string>): string {
  let free = id;
  for (let number = 1; taken.has(free); number++) free = `${id}-${number}`;
  taken.add(free);
  return free;
}
