// The documentation as a site: every link and every part that is linked to is there, nothing is asked of elsewhere, and in a
// real browser, from the disk, it can be searched and read, in light and dark.
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import type { Browser } from "playwright-core";
import { openRunFolder } from "#platform/tempdir.ts";
import { findBarriers } from "#test/harness/axe.ts";
import { openBrowser } from "#test/harness/chromium.ts";
import { buildSite } from "./build.ts";
import { createRenderer } from "./markdown.ts";
import { parts } from "./pages.ts";

const stack = new AsyncDisposableStack();
let folder: string;
let browser: Browser;

before(async () => {
  folder = join(stack.use(await openRunFolder()).path, "site");
  await buildSite(folder);
  browser = await openBrowser();
  stack.defer(() => browser.close());
});
after(() => stack.disposeAsync());

const pages = (): readonly string[] => globSync("**/*.html", { cwd: folder });
const read = (page: string): string => readFileSync(join(folder, page), "utf8");
const pathOf = (page: string): string => join(folder, page);

test("every link leads to a page and a part of it that are there", () => {
  const ids = new Map(pages().map((page) => [page, new Set(Array.from(read(page).matchAll(/ id="([^"]+)"/g), ([, id]) => id))]));
  const broken = pages().flatMap((page) => {
    const links = Array.from(read(page).matchAll(/(?:href|src)="([^"]*)"/g), ([, link = ""]) => link);
    return links.flatMap((link) => {
      if (/^(?:https?|mailto):/.test(link)) return [];
      const [path = "", part] = link.replaceAll("&amp;", "&").split("#", 2);
      const target = path === "" ? page : normalize(join(dirname(page), decodeURIComponent(path)));
      const there = target.endsWith(".html") ? ids.has(target) : globSync(target, { cwd: folder }).length === 1;
      const found = there && (part === undefined || ids.get(target)?.has(part) === true);
      return found ? [] : [`${page}: ${link}`];
    });
  });
  assert.ok(ids.size > 50);
  assert.deepEqual(broken, []);
});

test("no page has anything from elsewhere, or two headings of the first rank", () => {
  for (const page of pages()) {
    const html = read(page);
    assert.doesNotMatch(html, /<(?:script|link|img|iframe|source)[^>]+(?:src|href)="(?:https?:)?\/\//, page);
    assert.equal(html.match(/<h1[ >]/g)?.length, 1, page);
  }
});

test("what was measured has its plots", () => {
  const html = read("measured.html");
  assert.ok((html.match(/<figure class="plot">/g)?.length ?? 0) >= 3);
  assert.doesNotMatch(html, /NaN|undefined/);
});

test("in a browser, from the disk: a word is found, and leads to its page; nothing is asked of elsewhere", async () => {
  const page = await browser.newPage();
  const foreign: string[] = [];
  page.on("request", (request) => {
    if (!request.url().startsWith("file:")) foreign.push(request.url());
  });
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(pathToFileURL(pathOf("decisions/index.html")).href);
  await page.locator("#search").fill("anti-thrash age");
  const hit = page.locator("#found a", { hasText: "Words" });
  await hit.waitFor({ state: "visible" });
  await hit.click();
  assert.match(page.url(), /glossary\.html/);
  await page.locator("#search").fill("no-such-word-anywhere");
  await page.locator("#found-count", { hasText: "nothing found" }).waitFor({ state: "attached" });
  assert.deepEqual([foreign, complaints], [[], []]);
  await page.close();
});

for (const colorScheme of ["light", "dark"] as const) {
  test(`in ${colorScheme} nothing stands in the way of assistive technology, ${colorScheme === "light" ? "on any page of the index" : "whose colours are all alike"}`, async () => {
    const context = await browser.newContext({ colorScheme });
    const page = await context.newPage();
    const urls = parts
      .flatMap((part) => part.pages.map(({ file }) => file))
      .map((file) =>
        file === "../README.md" ? "readme.html" : file.replace("README.md", "index.html").replace(/\.md$/, ".html"),
      );
    const barriers: string[] = [];
    const others = colorScheme === "light" ? urls : ["concepts.html", "measured.html", "cli.html"];
    for (const url of ["index.html", ...others]) {
      await page.goto(pathToFileURL(pathOf(url)).href);
      for (const barrier of await findBarriers(page)) barriers.push(`${url}: ${barrier}`);
    }
    await context.close();
    assert.deepEqual(barriers, []);
  });
}

test("no page is wider than a phone", async () => {
  const page = await browser.newPage({ viewport: { width: 360, height: 740 } });
  for (const url of pages().filter((name) => !name.includes("/"))) {
    await page.goto(pathToFileURL(pathOf(url)).href);
    assert.ok(Number(await page.evaluate("document.documentElement.scrollWidth")) <= 360, url);
  }
  await page.close();
});

test("no words of the settings are cut off where there is room for them", async () => {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  await page.goto(pathToFileURL(pathOf("settings.html")).href);
  const cut = "Array.from(document.querySelectorAll('.wide')).filter((each) => each.scrollWidth > each.clientWidth).length";
  assert.equal(await page.evaluate(cut), 0);
  await page.close();
});

test("a link to what is not in the repository ends the build", () => {
  const render = createRenderer((link) => {
    throw new Error(`there is no ${link}`);
  });
  assert.throws(() => render("# A\n\n[b](none.md)"), /there is no none\.md/);
});
