// Owns what one step of a holding has to tell gateways: gathered while the step goes on, told once at its end.
// Invariants: each change is told once, with what it came to; what leaves is told by itself, since it wants acks; whoever
// asked for what did not change is answered alone. Sequence numbers have no gap.
import type { CopyName, CopyView } from "./copies.ts";
import type { HoldingEffect } from "./events.ts";
import { goneView } from "./views.ts";

export interface Publication {
  leaves(key: string, cause: string | undefined): void;
  /** This gateway wants to hear of it, changed or not. */
  answers(gatewayId: string, key: string): void;
  take(
    changed: ReadonlyMap<string, CopyName>,
    view: (key: string) => CopyView | undefined,
  ): {
    readonly effects: readonly HoldingEffect[];
    /** Wants an ack of each gateway. */
    readonly withdrawal: { readonly sequence: number; readonly keys: readonly string[] } | undefined;
  };
}

export function createPublication(): Publication {
  let sequence = 0;
  let leaving: string[] = [];
  let causes = new Map<string, string>();
  let asked: { readonly gatewayId: string; readonly key: string }[] = [];
  return {
    leaves(key, cause): void {
      leaving.push(key);
      if (cause !== undefined) causes.set(key, cause);
    },
    answers(gatewayId, key): void {
      asked.push({ gatewayId, key });
    },
    take(changed, view): ReturnType<Publication["take"]> {
      const effects: HoldingEffect[] = [];
      const keys = [...new Set(leaving)].filter((key) => view(key)?.state === "leaving");
      const gone = new Set(keys);
      const changes = Array.from(changed).flatMap(([key, name]) => (gone.has(key) ? [] : [view(key) ?? goneView(name)]));
      if (changes.length > 0) effects.push({ kind: "publish", sequence: ++sequence, changes, withdraw: false });
      let withdrawal: { readonly sequence: number; readonly keys: readonly string[] } | undefined;
      if (keys.length > 0) {
        withdrawal = { sequence: ++sequence, keys };
        const views = keys.flatMap((key) => view(key) ?? []);
        const why = causes.size === 0 ? {} : { causes };
        effects.push({ kind: "publish", sequence, changes: views, withdraw: true, ...why });
      }
      for (const { gatewayId, key } of asked) {
        if (changed.has(key) || gone.has(key)) continue;
        const seen = view(key);
        if (seen !== undefined) effects.push({ kind: "tell", gatewayId, changes: [seen], withdrawals: [] });
      }
      leaving = [];
      asked = [];
      if (causes.size > 0) causes = new Map();
      return { effects, withdrawal };
    },
  };
}
