// Owns what every page of the site has around its content: navigation, search, the list of its parts. Pure.
import { plotStyle } from "../../bench/report/svg.ts";
import type { Heading } from "./markdown.ts";

export interface NavPart {
  readonly title: string;
  readonly pages: readonly { readonly title: string; readonly url: string }[];
}

export interface FrameParts {
  readonly title: string;
  readonly html: string;
  readonly headings: readonly Heading[];
  readonly url: string;
  /** The way from this page to the site's root. */
  readonly base: string;
  readonly nav: readonly NavPart[];
}

export function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

export function frame({ title, html, headings, url, base, nav }: FrameParts): string {
  const pages = nav.flatMap((part) => part.pages);
  const at = pages.findIndex((page) => page.url === url);
  const inside = headings.filter(({ level }) => level === 2);
  return `<!doctype html>
<html lang="en" data-base="${base}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title === "Documentation" ? "Warmpath" : `${title} - Warmpath`)}</title>
<link rel="stylesheet" href="${base}/style.css">
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<a class="home" href="${base}/index.html">Warmpath</a>
<form role="search" onsubmit="return false"><label for="search">Search</label>
<input id="search" type="search" autocomplete="off" spellcheck="false" aria-describedby="found-count">
<span id="found-count" class="hidden" role="status"></span><ul id="found"></ul></form>
</header>
<div class="columns">
<nav aria-label="Pages"><details open><summary>Pages</summary>
${nav.map(({ title: part, pages: inPart }) => `<h2>${escape(part)}</h2><ul>${inPart.map((page) => `<li><a href="${base}/${page.url}"${page.url === url ? ' aria-current="page"' : ""}>${escape(page.title)}</a></li>`).join("")}</ul>`).join("\n")}
</details></nav>
<main id="content" tabindex="-1">
${html}
<footer>${turn(pages[at - 1], base, "Before", at > 0)}${turn(pages[at + 1], base, "Next", at >= 0)}</footer>
</main>
${inside.length < 2 ? "" : `<nav class="inside" aria-label="On this page"><h2>On this page</h2><ul>${inside.map(({ id, text }) => `<li><a href="#${id}">${escape(text)}</a></li>`).join("")}</ul></nav>`}
</div>
<script>
document.getElementById("search").addEventListener("focus", () => {
  const script = document.createElement("script");
  script.src = "${base}/search.js";
  document.body.append(script);
}, { once: true });
if (matchMedia("(max-width: 900px)").matches) document.querySelector("nav details").open = false;
</script>
</body>
</html>
`;
}

function turn(
  page: { readonly title: string; readonly url: string } | undefined,
  base: string,
  word: string,
  isOn: boolean,
): string {
  return page === undefined || !isOn ? "<span></span>" : `<a href="${base}/${page.url}">${word}: ${escape(page.title)}</a>`;
}

export const style = `
:root { color-scheme: light dark; --ground: light-dark(#fbfaf8, #14171c); --card: light-dark(#ffffff, #1c2027); --line: light-dark(#dedad2, #2e343e); --text: light-dark(#1d2129, #e8e6e1); --soft: light-dark(#5a616d, #a3abb8); --accent: light-dark(#9a3412, #f4a261); --code: light-dark(#f1eee8, #22272f); }
* { box-sizing: border-box; }
html { scroll-padding-top: 70px; }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.6 system-ui, sans-serif; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
header { position: sticky; top: 0; z-index: 2; display: flex; gap: 16px; align-items: center; justify-content: space-between; padding: 10px 24px; background: var(--card); border-bottom: 1px solid var(--line); }
.home { font-weight: 700; text-decoration: none; color: var(--text); }
form { position: relative; display: flex; gap: 8px; align-items: center; margin: 0; }
input { font: inherit; width: min(320px, 46vw); padding: 4px 10px; color: inherit; background: var(--ground); border: 1px solid var(--line); border-radius: 6px; }
#found { position: absolute; top: 100%; right: 0; width: min(460px, 90vw); max-height: 70vh; overflow: auto; margin: 6px 0 0; padding: 0; list-style: none; background: var(--card); border-radius: 8px; box-shadow: 0 6px 24px rgb(0 0 0 / 25%); color: var(--soft); }
#found li { padding: 6px 14px; border-bottom: 1px solid var(--line); }
.columns { display: grid; grid-template-columns: 240px minmax(0, 1fr) 220px; gap: 36px; max-width: 1440px; margin: 0 auto; padding: 0 24px; }
nav { font-size: 15px; padding: 20px 0; }
nav h2 { margin: 18px 0 4px; font-size: 14px; color: var(--soft); font-weight: 600; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li { padding: 2px 0; }
nav a { text-decoration: none; }
nav a:hover, nav a:focus-visible { text-decoration: underline; }
nav a[aria-current] { font-weight: 700; color: var(--text); }
nav summary { display: none; }
.inside, .columns > nav:first-child { position: sticky; top: 56px; align-self: start; max-height: calc(100vh - 56px); overflow: auto; }
main { min-width: 0; max-width: 860px; padding: 12px 0 60px; overflow-wrap: break-word; }
main:focus { outline: none; }
h1 { line-height: 1.2; margin: 20px 0 16px; }
h2 { margin-top: 40px; }
code { font: 0.88em/1.5 ui-monospace, "DejaVu Sans Mono", monospace; background: var(--code); padding: 1px 5px; border-radius: 4px; }
:not(pre) > code { overflow-wrap: anywhere; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; overflow-x: auto; }
pre code { background: none; padding: 0; }
img { max-width: 100%; height: auto; border-radius: 8px; }
.wide { overflow-x: auto; margin: 14px 0; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th, td { text-align: left; vertical-align: top; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
/* What a table lists is found by its first column: names stay whole, and scroll with the table where there is no room. */
td:first-child code { white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.soft { color: var(--soft); }
footer { display: flex; justify-content: space-between; gap: 20px; margin-top: 50px; padding-top: 16px; border-top: 1px solid var(--line); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 8px; top: 8px; background: var(--card); padding: 6px 12px; z-index: 3; }
@media (max-width: 1200px) { .columns { grid-template-columns: 220px minmax(0, 1fr); } .inside { display: none; } }
@media (max-width: 600px) { header { padding: 10px 16px; } .columns { padding: 0 16px; } label { position: absolute; left: -999px; } }
@media (max-width: 900px) { .columns { display: block; } .columns > nav:first-child { position: static; max-height: none; } nav summary { display: block; cursor: pointer; } }
@media print { header, nav, footer { display: none; } .columns { display: block; } }
${plotStyle}`;
