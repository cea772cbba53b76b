// Owns the prediction of how many bytes a copy will take: what it took before, else the hint, else
// what the model server predicts, else the artefact's bytes
// times the ratio learned for artefacts of its format and like size, else what the model server says that any model takes,
// else a cautious first guess. What turned out to be too little is not predicted again for an hour, unless it is measured meanwhile.
// Ratios are kept apart by size, since a small artefact grows by a session's fixed cost and a large one hardly at all.
// Invariant: bounded memory, whatever formats and copies come by.

export interface SizeFacts {
  readonly key: string;
  readonly format: string;
  readonly sizeHintBytes: number | undefined;
  readonly artefactBytes?: number | undefined;
  /** By the model server itself. */
  readonly predictedBytes?: number | undefined;
}

export interface Sizes {
  /** Undefined: the artefact's bytes must be known first. */
  predict(facts: SizeFacts, nowMs: number): number | undefined;
  /** By its artefact's bytes and what was measured of others alone; undefined while too little was. */
  learned(facts: SizeFacts): number | undefined;
  /** It takes at least so much: with less there was not enough memory. */
  tooLittle(key: string, leastBytes: number, nowMs: number): void;
  /** What the model server says that a model takes of which nothing is known. */
  told(defaultBytes: number | undefined): void;
  /** What a copy took once it was loaded. */
  learn(facts: SizeFacts, sizeBytes: number): void;
}

const firstRatio = 4;
const firstExtraBytes = 128 * 1_024;
const maxMeasured = 16_384;
const maxFormats = 64;
const keptRatios = 32;
const fewestRatios = 4;
const quantile = 0.9;
const maxLeast = 1_024;
const leastLastsMs = 3_600_000;

interface Ratios {
  readonly recent: number[];
  at: number;
  /** Of the recent ones; undefined after a change. */
  high: number | undefined;
}

export function createSizes(): Sizes {
  // In the order of their last measurement, so that the oldest is forgotten first.
  const measured = new Map<string, number>();
  const formats = new Map<string, Map<number, Ratios>>();
  let defaultBytes: number | undefined;
  const least = new Map<string, { readonly bytes: number; readonly untilMs: number }>();

  const ratioOf = (format: string, artefactBytes: number): number | undefined => {
    const ratios = formats.get(format)?.get(sizeClass(artefactBytes));
    if (ratios === undefined || ratios.recent.length < fewestRatios) return undefined;
    ratios.high ??= ratios.recent.toSorted((a, b) => a - b)[Math.ceil(quantile * ratios.recent.length) - 1];
    return ratios.high;
  };

  const learned = ({ format, artefactBytes }: Pick<SizeFacts, "format" | "artefactBytes">): number | undefined => {
    const ratio = artefactBytes === undefined ? undefined : ratioOf(format, artefactBytes);
    return ratio === undefined ? undefined : Math.ceil(ratio * Math.max(1, artefactBytes ?? 0));
  };

  const guess = ({ key, format, sizeHintBytes, artefactBytes, predictedBytes }: SizeFacts): number | undefined => {
    const known = measured.get(key) ?? sizeHintBytes ?? predictedBytes;
    if (known !== undefined) return known;
    if (artefactBytes === undefined) return undefined;
    return learned({ format, artefactBytes }) ?? defaultBytes ?? Math.ceil(firstRatio * artefactBytes + firstExtraBytes);
  };

  return {
    predict(facts, nowMs): number | undefined {
      const guessed = guess(facts);
      const known = least.get(facts.key);
      if (known === undefined) return guessed;
      if (nowMs < known.untilMs) return Math.max(known.bytes, guessed ?? 0);
      least.delete(facts.key);
      return guessed;
    },

    learned,

    tooLittle(key, leastBytes, nowMs): void {
      least.delete(key);
      least.set(key, { bytes: Math.ceil(leastBytes), untilMs: nowMs + leastLastsMs });
      if (least.size > maxLeast) forgetFirst(least);
    },

    told(bytes): void {
      defaultBytes = bytes;
    },

    learn({ key, format, artefactBytes }, sizeBytes): void {
      least.delete(key);
      measured.delete(key);
      measured.set(key, sizeBytes);
      if (measured.size > maxMeasured) forgetFirst(measured);
      if (artefactBytes === undefined) return;
      let classes = formats.get(format);
      if (classes === undefined) {
        if (formats.size >= maxFormats) forgetFirst(formats);
        classes = new Map();
        formats.set(format, classes);
      }
      let ratios = classes.get(sizeClass(artefactBytes));
      if (ratios === undefined) {
        ratios = { recent: [], at: 0, high: undefined };
        classes.set(sizeClass(artefactBytes), ratios);
      }
      ratios.recent[ratios.at] = sizeBytes / Math.max(1, artefactBytes);
      ratios.at = (ratios.at + 1) % keptRatios;
      ratios.high = undefined;
    },
  };
}

/** Artefacts of one class differ by less than a factor of 4. */
function sizeClass(artefactBytes: number): number {
  return Math.floor(Math.log2(Math.max(1, artefactBytes)) / 2);
}

function forgetFirst(map: Map<string, unknown>): void {
  const first = map.keys().next();
  if (first.done !== true) map.delete(first.value);
}
