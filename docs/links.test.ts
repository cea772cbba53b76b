// Relative links in README.md and docs/**/*.md point at files that are there, and at headings that are there.
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const pages = ["README.md", ...globSync("docs/**/*.md", { cwd: root })];

/** Prose without code, in which nothing is a link. */
function readProse(page: string): string {
  return readFileSync(join(root, page), "utf8")
    .replaceAll(/^```[\s\S]*?^```/gm, "")
    .replaceAll(/`[^`\n]*`/g, "code");
}

/** As GitHub makes them. */
function headingIds(page: string): readonly string[] {
  const text = readFileSync(join(root, page), "utf8").replaceAll(/^```[\s\S]*?^```/gm, "");
  return Array.from(text.matchAll(/^#+ (.+)$/gm), ([, title = ""]) =>
    title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

for (const page of pages) {
  test(`the links of ${page} lead somewhere`, () => {
    const broken = Array.from(readProse(page).matchAll(/\]\(([^)\s]+)\)/g), ([, link = ""]) => link).filter((link) => {
      if (/^[a-z]+:/.test(link)) return false;
      const [path = "", heading] = link.split("#", 2);
      const target = path === "" ? page : join(dirname(page), decodeURIComponent(path));
      const file = join(root, target);
      if (target.startsWith("..") || !existsSync(file)) return true;
      return heading !== undefined && !(statSync(file).isFile() && headingIds(target).includes(heading));
    });
    assert.deepEqual(broken, []);
  });
}
