// Owns what is done about clients that were told that a model is not there, where nobody was asked for another pod: a request too
// large to be kept for that. The pods that say they hold the model are asked, and one that does not takes its copy
// back, so that the next request loads it anew. Told by access logs, hence off the path of every request, and sampled.
import type { Fleet } from "./fleet.ts";

export interface Absences {
  /** Resolves when its pods have answered, or are being asked already. */
  look(model: string): Promise<void>;
}

export interface AbsencesParts {
  readonly fleet: Pick<Fleet, "holders">;
  readonly verify: (podId: string, model: string, revision: string) => Promise<boolean>;
}

/** Models that are asked for at once; the adapters' own look at what they hold finds the rest. */
const mostAsked = 64;

export function createAbsences({ fleet, verify }: AbsencesParts): Absences {
  const asked = new Set<string>();
  return {
    async look(model) {
      if (asked.has(model) || asked.size >= mostAsked) return;
      asked.add(model);
      const ready = [...fleet.holders(model)].filter(({ copy }) => copy.state === "ready");
      try {
        await Promise.all(ready.map(({ podId, copy }) => verify(podId, model, copy.revision)));
      } finally {
        asked.delete(model);
      }
    },
  };
}
