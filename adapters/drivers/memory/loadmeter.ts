// Owns measuring what loads take by what the model server's processes grow by: reads the one, asks growth.ts.
import { artefactBytes } from "../artefact.ts";
import type { LoadRequest } from "../driver.ts";
import { createGrowth } from "./growth.ts";
import type { MemoryMeter } from "./processes.ts";

export interface LoadMeter {
  begin(request: LoadRequest): Promise<LoadMeasure>;
  unloaded(sizeBytes: number): void;
  reset(): void;
  /** Of the whole server; undefined: it cannot be seen. */
  total(signal: AbortSignal): Promise<number | undefined>;
}

export interface LoadMeasure {
  /** What the model takes, where that is known. */
  end(): Promise<number | undefined>;
  fail(): void;
}

export function createLoadMeter(meter: MemoryMeter): LoadMeter {
  const growth = createGrowth();
  return {
    async begin({ path, format, expectedBytes, signal }): Promise<LoadMeasure> {
      const sizeBytes = (await artefactBytes(path)) ?? 0;
      growth.begin(await meter.read(signal));
      return {
        end: async () => growth.end({ bytes: await meter.read(signal), format, artefactBytes: sizeBytes, expectedBytes }),
        fail: () => growth.fail(),
      };
    },
    unloaded: (sizeBytes) => growth.unloaded(sizeBytes),
    reset: () => growth.reset(),
    total: (signal) => meter.read(signal),
  };
}
