// Owns the flights under way, by revision and by model.
import type { Flight } from "./flight.ts";

export interface Flights {
  get(key: string): Flight | undefined;
  /** Of all revisions of the model. */
  of(model: string): readonly Flight[];
  all(): readonly Flight[];
  add(flight: Flight): void;
  /** Nothing happens when another one has its key by now. */
  remove(flight: Flight): void;
  readonly size: number;
}

export function createFlights(): Flights {
  const byKey = new Map<string, Flight>();
  const byModel = new Map<string, Set<Flight>>();

  return {
    get: (key) => byKey.get(key),
    of: (model) => [...(byModel.get(model) ?? [])],
    all: () => [...byKey.values()],
    add(flight) {
      const { name } = flight.model;
      byKey.set(flight.key, flight);
      byModel.set(name, (byModel.get(name) ?? new Set()).add(flight));
    },
    remove(flight) {
      if (byKey.get(flight.key) !== flight) return;
      const { name } = flight.model;
      byKey.delete(flight.key);
      const others = byModel.get(name);
      others?.delete(flight);
      if (others?.size === 0) byModel.delete(name);
    },
    get size() {
      return byKey.size;
    },
  };
}
