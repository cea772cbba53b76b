// Owns the lives of the model server: which one goes on, and what was being loaded in each.
export interface Life {
  /** Aborted when it is over. */
  readonly signal: AbortSignal;
  /** Keys of the loads that are in the model server now. */
  readonly loading: Set<string>;
  /** Once it is over: how many loads were in it then. */
  readonly suspects: number | undefined;
}

export interface Lives {
  readonly current: Life;
  /** How many are over. */
  readonly ended: number;
  /** The next one begins. Returns what tells those who wait that the last one is over. */
  end(reason: string): () => void;
}

class OneLife implements Life {
  readonly loading = new Set<string>();
  readonly over = new AbortController();
  suspects: number | undefined;
  get signal(): AbortSignal {
    return this.over.signal;
  }
}

export function createLives(): Lives {
  let current = new OneLife();
  let ended = 0;
  return {
    get current(): Life {
      return current;
    },
    get ended(): number {
      return ended;
    },
    end(reason): () => void {
      const last = current;
      last.suspects = last.loading.size;
      current = new OneLife();
      ended += 1;
      return () => last.over.abort(new Error(`the model server is lost: ${reason}`));
    },
  };
}
