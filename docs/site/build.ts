// Owns how the documentation becomes a site: every page of docs/, README.md, and what they point at in the repository, as
// HTML that needs nothing from elsewhere and can be opened from the disk.

import { existsSync, globSync, statSync } from "node:fs";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, extname, join, posix, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { benchmarks } from "../../bench/list.ts";
import { buildSections } from "../../bench/report/page.ts";
import { parseResults } from "../../bench/report/results.ts";
import { createRenderer, type Rendered } from "./markdown.ts";
import { parts } from "./pages.ts";
import { buildSearch } from "./search.ts";
import { escape, frame, type NavPart, style } from "./template.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const measuredMark = "<!-- measured -->";
const pictures = new Set([".png", ".svg", ".jpg", ".webp"]);

interface Source {
  /** In the repository. */
  readonly file: string;
  /** In the site. */
  readonly url: string;
  readonly rendered: Rendered;
}

/** Returns how many pages were written. Throws when a page points at what is not there. */
export async function buildSite(outFolder: string): Promise<number> {
  const files = ["README.md", ...globSync("docs/**/*.md", { cwd: root })].toSorted();
  const others = new Set<string>();
  const urlOf = (file: string): string => {
    if (files.includes(file)) return pageUrl(file);
    const path = join(root, file);
    if (!existsSync(path)) throw new Error(`there is no ${file}`);
    if (pictures.has(extname(file))) return file.replace(/^docs\//, "");
    others.add(file);
    return `source/${file}${statSync(path).isDirectory() ? "/index" : ""}.html`;
  };
  const sources: Source[] = [];
  for (const file of files) {
    const text = await readFile(join(root, file), "utf8");
    const render = createRenderer((link) => rewrite(file, link, urlOf));
    sources.push({ file, url: pageUrl(file), rendered: render(text) });
  }
  const nav = buildNav(sources);
  await mkdir(outFolder, { recursive: true });
  for (const source of sources) {
    const { title, html, headings } = source.rendered;
    const found = html.includes(measuredMark) ? await measured() : undefined;
    const content =
      found === undefined
        ? { title, html, headings }
        : { title, html: html.replace(measuredMark, () => found.html), headings: [...headings, ...found.headings] };
    await writePage(outFolder, source.url, content, nav);
  }
  const shown = await writeSources(outFolder, others, nav);
  await cp(join(root, "docs", "images"), join(outFolder, "images"), { recursive: true });
  await writeFile(join(outFolder, "style.css"), style);
  await writeFile(join(outFolder, "search.js"), await buildSearch(sources.map(({ url, rendered }) => ({ url, ...rendered }))));
  return sources.length + shown;
}

function pageUrl(file: string): string {
  if (file === "README.md") return "readme.html";
  return file
    .replace(/^docs\//, "")
    .replace(/(^|\/)README\.md$/, "$1index.html")
    .replace(/\.md$/, ".html");
}

/** A link as it is in the site, from one page's place to another's. */
function rewrite(file: string, link: string, urlOf: (file: string) => string): string {
  if (/^[a-z]+:|^#/.test(link)) return link;
  const [path = "", heading] = link.split("#", 2);
  const target = posix.normalize(posix.join(posix.dirname(file), decodeURIComponent(path)));
  const url = posix.relative(posix.dirname(pageUrl(file)), urlOf(target.replace(/\/$/, "")));
  return heading === undefined ? url : `${url}#${heading}`;
}

function buildNav(sources: readonly Source[]): readonly NavPart[] {
  return parts.map(({ title, pages }) => ({
    title,
    pages: pages.map((page) => {
      const file = posix.normalize(posix.join("docs", page.file));
      const source = sources.find((each) => each.file === file);
      if (source === undefined) throw new Error(`docs/site/pages.ts names ${page.file}, which is not there`);
      return { title: page.title, url: source.url };
    }),
  }));
}

interface Content {
  readonly title: string;
  readonly html: string;
  readonly headings: Rendered["headings"];
}

async function writePage(outFolder: string, url: string, content: Content, nav: readonly NavPart[]): Promise<void> {
  const path = join(outFolder, url);
  await mkdir(dirname(path), { recursive: true });
  const base = relative(dirname(path), outFolder);
  await writeFile(path, frame({ ...content, url, base: base === "" ? "." : base, nav }));
}

/** Files of the repository that pages point at, to be read: text as it is, a folder as its list. */
async function writeSources(outFolder: string, files: ReadonlySet<string>, nav: readonly NavPart[]): Promise<number> {
  for (const file of files) {
    const path = join(root, file);
    const isFolder = statSync(path).isDirectory();
    const body = isFolder
      ? `<ul>${globSync("*", { cwd: path })
          .toSorted()
          .map((name) => `<li><code>${escape(name)}</code></li>`)
          .join("")}</ul>`
      : `<pre><code>${escape(await readFile(path, "utf8"))}</code></pre>`;
    const html = `<h1>${escape(file)}</h1>\n${body}`;
    await writePage(outFolder, `source/${file}${isFolder ? "/index" : ""}.html`, { title: file, html, headings: [] }, nav);
  }
  return files.size;
}

async function measured(): Promise<Pick<Content, "html" | "headings">> {
  const file = "docs/measured.json";
  const results = parseResults(await readFile(join(root, file), "utf8"), file);
  const names = benchmarks.map(({ name }) => name).filter((name) => results.runs[name] !== undefined);
  return { html: buildSections(results, benchmarks), headings: names.map((name) => ({ level: 2, id: name, text: name })) };
}
