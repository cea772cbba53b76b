// Owns how long a pod may say nothing to a request before the gateway is asked whether that pod still lives.
// Most models answer in milliseconds, so two seconds of silence are worth the question. One whose inferences take longer, on
// pods that are well, would have the gateway asked for each of its hits: such a model is given more time, a step at a time,
// and less again once it has answered quickly for long. Only pods that were well all the time say anything about a model.
// Invariants: memory is bounded by `maxModels`, the one that was heard of the longest ago is forgotten first; what is not
// remembered has the shortest patience.

/** By step, in milliseconds. */
export const patienceMs = [2_000, 16_000, 128_000] as const;
export type Patience = 0 | 1 | 2;

export interface Patiences {
  of(model: string): Patience;
  /**
   * The gateway was asked for a request that was given `patience`, and held it for `heldMs` beside pods that were well the
   * whole time, until it was answered or its client had enough.
   */
  outlasted(model: string, patience: Patience, heldMs: number, nowMs: number): void;
  /** A request of the model took so long, first byte to last. */
  took(model: string, tookMs: number, nowMs: number): void;
  forget(model: string): void;
}

interface Entry {
  patience: Patience;
  /** Requests that outlasted it of late, the first of them, and the longest silence. */
  outlasted: number;
  outlastedSinceMs: number;
  silentMs: number;
  /** Requests that would have been answered in the next shorter one, in a row. */
  quick: number;
  quickSinceMs: number;
}

/** A single long inference is no habit. */
const outlastedEnough = 3;
const outlastedWithinMs = 10 * 60_000;
const quickEnough = 20;
const quickForMs = 10 * 60_000;
/** So much more is given than the longest silence that was seen. */
const margin = 1.5;

/** `onChange`: told of a model whose patience is another one now. */
export function createPatiences(options: { readonly maxModels: number; readonly onChange: (model: string) => void }): Patiences {
  const entries = new Map<string, Entry>();

  function touch(model: string, nowMs: number): Entry {
    const entry = entries.get(model) ?? {
      patience: 0,
      outlasted: 0,
      outlastedSinceMs: nowMs,
      silentMs: 0,
      quick: 0,
      quickSinceMs: nowMs,
    };
    entries.delete(model);
    entries.set(model, entry);
    return entry;
  }

  function forget(model: string): void {
    const entry = entries.get(model);
    entries.delete(model);
    if (entry !== undefined && entry.patience > 0) options.onChange(model);
  }

  function set(model: string, entry: Entry, patience: Patience, nowMs: number): void {
    if (patience === entry.patience) return;
    Object.assign(entry, { patience, outlasted: 0, silentMs: 0, quick: 0, quickSinceMs: nowMs });
    options.onChange(model);
  }

  return {
    of: (model) => entries.get(model)?.patience ?? 0,
    outlasted(model, patience, heldMs, nowMs) {
      const entry = touch(model, nowMs);
      const [oldest] = entries.keys();
      if (entries.size > options.maxModels && oldest !== undefined) forget(oldest);
      // It was under way before the model was given more, and says nothing about what it has now.
      if (patience !== entry.patience) return;
      if (nowMs - entry.outlastedSinceMs > outlastedWithinMs) Object.assign(entry, { outlasted: 0, silentMs: 0 });
      if (entry.outlasted === 0) entry.outlastedSinceMs = nowMs;
      entry.outlasted += 1;
      entry.silentMs = Math.max(entry.silentMs, patienceMs[patience] + heldMs);
      if (entry.outlasted >= outlastedEnough) set(model, entry, patienceFor(entry.silentMs * margin), nowMs);
    },
    took(model, tookMs, nowMs) {
      const entry = entries.get(model);
      if (entry === undefined || entry.patience === 0) return;
      const shorter = entry.patience === 2 ? 1 : 0;
      if (tookMs * margin > patienceMs[shorter]) Object.assign(entry, { quick: 0, quickSinceMs: nowMs });
      else entry.quick += 1;
      if (entry.quick < quickEnough || nowMs - entry.quickSinceMs < quickForMs) return;
      set(model, entry, shorter, nowMs);
    },
    forget,
  };
}

function patienceFor(ms: number): Patience {
  return ms <= patienceMs[0] ? 0 : ms <= patienceMs[1] ? 1 : 2;
}
