// Owns what a model server's growth says of the models it was made to load, where the server itself tells nothing. Pure.
//
// A process grows by leaps: its allocators take more than they need, and freed memory is used again before more is taken.
// So a single load says little. What counts is the sum over many: bytes that the process grew by, for each byte of the
// artefacts loaded meanwhile, apart for each format and size of artefact (see ../../agent/sizes.ts).
//
// Invariants:
// - Counted is the time from when nothing loads until nothing loads again, as a whole: what the process grew by is shared out
//   among the loads in it by their artefacts' bytes.
// - It counts only when nothing was unloaded or failed in it, and when no memory is left over that unloaded models gave back:
//   what is used again is no growth.
// - One with the first load of a format in a life of the server counts nothing: libraries come with it.
export interface Growth {
  /** A load begins; `bytes`: what the server takes. */
  begin(bytes: number | undefined): void;
  /** What the model takes; undefined: too little is known yet. */
  end(load: EndedLoad): number | undefined;
  /** A load failed, and left nothing or an unknown rest. */
  fail(): void;
  unloaded(sizeBytes: number): void;
  /** The server died: another one knows no library and has no memory over. */
  reset(): void;
}

export interface EndedLoad {
  /** What the server takes now. */
  readonly bytes: number | undefined;
  readonly format: string;
  readonly artefactBytes: number;
  /** What it was thought to take. */
  readonly expectedBytes: number;
}

interface Sums {
  loads: number;
  artefactBytes: number;
  grownBytes: number;
}

const fewestLoads = 8;
/** Older ones fade: sums are halved when so many are in them. */
const mostLoads = 256;
const maxClasses = 512;
const marginFactor = 1.1;

export function createGrowth(): Growth {
  const classes = new Map<string, Sums>();
  let seen = new Set<string>();
  let underWay = 0;
  let overBytes = 0;
  /** What the server took when the first of those under way began; undefined: this time does not count. */
  let startBytes: number | undefined;
  let ended: EndedLoad[] = [];

  const sumsOf = (name: string): Sums => {
    const known = classes.get(name) ?? { loads: 0, artefactBytes: 0, grownBytes: 0 };
    classes.delete(name);
    classes.set(name, known);
    const oldest = classes.keys().next();
    if (classes.size > maxClasses && oldest.done !== true) classes.delete(oldest.value);
    return known;
  };

  const settle = (endBytes: number | undefined): void => {
    if (startBytes !== undefined && endBytes !== undefined) {
      const grownBytes = Math.max(0, endBytes - startBytes);
      const allBytes = ended.reduce((sum, { artefactBytes }) => sum + Math.max(1, artefactBytes), 0);
      for (const load of ended) {
        const artefactBytes = Math.max(1, load.artefactBytes);
        for (const name of namesOf(load)) add(sumsOf(name), artefactBytes, (grownBytes * artefactBytes) / allBytes);
      }
    }
    ended = [];
    startBytes = undefined;
  };

  const predict = (load: EndedLoad): number | undefined => {
    const sums = namesOf(load)
      .map(sumsOf)
      .find(({ loads, grownBytes }) => loads >= fewestLoads && grownBytes > 0);
    if (sums === undefined) return undefined;
    return Math.ceil((marginFactor * Math.max(1, load.artefactBytes) * sums.grownBytes) / sums.artefactBytes);
  };

  return {
    begin(bytes): void {
      if (underWay === 0) startBytes = overBytes > 0 ? undefined : bytes;
      underWay += 1;
    },
    end(load): number | undefined {
      underWay -= 1;
      if (!seen.has(load.format)) startBytes = undefined;
      seen.add(load.format);
      ended.push(load);
      if (underWay === 0) settle(load.bytes);
      const sizeBytes = predict(load);
      overBytes = Math.max(0, overBytes - (sizeBytes ?? load.expectedBytes));
      return sizeBytes;
    },
    fail(): void {
      underWay -= 1;
      startBytes = undefined;
      if (underWay === 0) ended = [];
    },
    unloaded(sizeBytes): void {
      startBytes = undefined;
      overBytes += sizeBytes;
    },
    reset(): void {
      seen = new Set();
      startBytes = undefined;
      overBytes = 0;
    },
  };
}

/** Those of its format and size first, then all of its format. */
function namesOf({ format, artefactBytes }: EndedLoad): readonly [sized: string, whole: string] {
  return [`${format} ${Math.floor(Math.log2(Math.max(1, artefactBytes)) / 2)}`, format];
}

function add(sums: Sums, artefactBytes: number, grownBytes: number): void {
  sums.loads += 1;
  sums.artefactBytes += artefactBytes;
  sums.grownBytes += grownBytes;
  if (sums.loads < mostLoads) return;
  sums.loads /= 2;
  sums.artefactBytes /= 2;
  sums.grownBytes /= 2;
}
