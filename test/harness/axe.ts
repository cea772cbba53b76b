// Owns the check of a page for people who use assistive technology, by axe-core.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";

interface Result {
  readonly id: string;
  readonly help: string;
  readonly nodes: readonly { readonly target: readonly string[]; readonly failureSummary?: string }[];
}

interface Found {
  readonly violations: readonly Result[];
  readonly passes: readonly Result[];
}

const file = fileURLToPath(import.meta.resolve("axe-core/axe.min.js"));

/** What breaks WCAG 2.2 AA or good practice on the page as it is now, a line each. */
export async function findBarriers(page: Page): Promise<readonly string[]> {
  // Evaluated by the debugger: the page's own policy lets no script in.
  await page.evaluate(await readFile(file, "utf8"));
  const { violations, passes } = await page.evaluate<Found>("axe.run(document, { resultTypes: ['violations'] })");
  if (!passes.some(({ id }) => id === "color-contrast")) throw new Error("axe looked at nothing: the page shows no text");
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(
      ({ target, failureSummary = "" }) => `${id} (${help}): ${target.join(" ")} ${failureSummary.replaceAll(/\s+/g, " ")}`,
    ),
  );
}
