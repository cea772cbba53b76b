// Builds the documentation as a site: `npm run docs -- [FOLDER]`.
import { resolve } from "node:path";
import { runMain, UsageError } from "#platform/lifecycle.ts";
import { buildSite } from "./build.ts";

await runMain("docs", async () => {
  const [folder = ".warmpath/site", ...more] = process.argv.slice(2);
  if (more.length > 0 || folder.startsWith("-")) throw new UsageError("usage: npm run docs -- [FOLDER]");
  const out = resolve(folder);
  const pages = await buildSite(out);
  process.stdout.write(`${pages} pages: ${out}/index.html\n`);
});
