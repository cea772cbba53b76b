// Owns the search of the site: one script with the library, the texts, and the few lines that show what was found. It is
// loaded when somebody begins to search, and works from the disk as well, where a browser fetches nothing.
import { readFile } from "node:fs/promises";
import type { Rendered } from "./markdown.ts";

interface Searched extends Pick<Rendered, "title" | "headings" | "texts"> {
  readonly url: string;
}

export async function buildSearch(pages: readonly Searched[]): Promise<string> {
  const parts = pages.flatMap(({ url, title, headings, texts }) =>
    headings.map(({ id, level, text }) => ({
      id: level === 1 ? url : `${url}#${id}`,
      page: title,
      heading: text,
      text: (texts.get(id) ?? "").slice(0, 4_000),
    })),
  );
  const library = await readFile(new URL("../umd/index.js", import.meta.resolve("minisearch")), "utf8");
  const script = await readFile(new URL("find.js", import.meta.url), "utf8");
  return `${library.replace(/\n?\/\/# sourceMappingURL=.*\n?/, "\n")}\nconst parts = ${JSON.stringify(parts).replaceAll("<", "\\u003c")};\n${script}`;
}
