// Owns the list of registered models, a page at a time, by label, tenant and state.
import type { Model } from "#core/model.ts";
import { sleep } from "#platform/clock.ts";
import type { ModelBook } from "../book.ts";
import { awayRefusal, within } from "../changes.ts";
import type { ListPage, ListQuery, Outcome } from "./models.ts";
import type { ModelState } from "./status.ts";

const listPatienceMs = 10_000;
/** Read from the registry at a time; other work has its turn in between. */
const scanPage = 500;
/** Looked at for one page of a filtered list. */
const maxScanned = 20_000;

/** Pages of the registry, and of each name what this gateway knows. A filter looks at so many names at most, then says where to go on. */
export async function listModels(
  { after, limit, labels, tenant, state }: ListQuery,
  book: Pick<ModelBook, "names" | "revision" | "get">,
  stateOf: (model: Model) => ModelState,
): Promise<Outcome<ListPage>> {
  const isFiltered = labels.length > 0 || tenant !== undefined || state !== undefined;
  const models: Model[] = [];
  let from = after;
  try {
    // Read before the names: what changes in between is told by a watch from here.
    const revision = await within(listPatienceMs, book.revision());
    for (let scanned = 0; ; ) {
      const size = isFiltered ? scanPage : limit - models.length;
      const page = await within(listPatienceMs, book.names(from, size));
      for (const name of page.names) {
        from = name;
        const model = book.get(name);
        if (model === undefined || !matches(model, labels, tenant)) continue;
        if (state !== undefined && stateOf(model) !== state) continue;
        models.push(model);
        if (models.length === limit) break;
      }
      scanned += page.names.length;
      const isLast = !page.more && from === page.names.at(-1);
      if (isLast || page.names.length === 0) return { kind: "ok", value: { models, next: undefined, revision } };
      if (models.length >= limit || scanned >= maxScanned) return { kind: "ok", value: { models, next: from, revision } };
      // Other work has its turn.
      await sleep(0);
    }
  } catch {
    return awayRefusal;
  }
}

function matches(model: Model, labels: ListQuery["labels"], tenant: string | undefined): boolean {
  if (tenant !== undefined && model.tenant !== tenant) return false;
  return labels.every(([key, value]) => {
    const own = model.labels !== undefined && Object.hasOwn(model.labels, key) ? model.labels[key] : undefined;
    return own !== undefined && (value === undefined || own === value);
  });
}
