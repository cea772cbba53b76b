// Owns the loading of revisions that should get a share or copies of a model's requests and that no pod holds: begun when
// the model is used, since the active revision answers in their place until then. Off the request path.
// Invariants: at most `most` are under way; one at a time for each revision; what failed is left alone as long as misses
// of it would be.
import type { Model, Revision } from "#core/model.ts";

export interface Shares {
  /** To be called with the names of models that were used. */
  onUsed(models: Iterable<string>): void;
}

export interface SharesParts {
  readonly findModel: (name: string) => Model | undefined;
  /** Revisions of the model that are wanted and not there. */
  readonly lacking: (model: string) => readonly Revision[];
  /** Resolves when the load has ended, however it did. */
  readonly load: (model: Model, revision: Revision) => Promise<unknown>;
}

const most = 16;

export function createShares({ findModel, lacking, load }: SharesParts): Shares {
  const underWay = new Set<string>();

  async function begin(key: string, model: Model, revision: Revision): Promise<void> {
    underWay.add(key);
    try {
      await load(model, revision);
    } finally {
      underWay.delete(key);
    }
  }

  return {
    onUsed(models) {
      // As many as were used in the last half second; few of them lack anything.
      for (const name of models) {
        for (const revision of lacking(name)) {
          const model = findModel(name);
          const key = `${name}@${revision.id}`;
          if (model !== undefined && underWay.size < most && !underWay.has(key)) void begin(key, model, revision);
        }
      }
    },
  };
}
