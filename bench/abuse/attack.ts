// Owns what an attack is, and what is noted of it.
import type { Registry } from "#platform/registry/registry.ts";
import type { TestFleet } from "#test/harness/fleet.ts";

export interface AttackContext {
  readonly fleet: TestFleet;
  readonly registry: Registry;
  /** Of who attacks: it may call `own` models and nothing else. */
  readonly key: string;
  /** The attacker's models, cold. */
  readonly own: readonly string[];
  /** Models of the victim, warm. */
  readonly theirs: readonly string[];
  /** Whatever must never reach a stranger. */
  readonly secrets: readonly string[];
  /** False once the victim has been watched for long enough. */
  readonly goesOn: () => boolean;
  readonly signal: AbortSignal;
  /** An answer to the attacker: `well` when it is one of those that it should be. */
  note(well: boolean, what: string): void;
  /** A text that the attacker has got hold of. */
  got(text: string): void;
}

export interface Attack {
  /** As it is called in the figures. */
  readonly name: string;
  /** One line. */
  readonly what: string;
  /** Until it need not go on. Connections and the like that it has opened end with the stack. */
  readonly run: (context: AttackContext, stack: AsyncDisposableStack) => Promise<void>;
}

/** So many at a time until it need not go on. */
export async function flood(
  { goesOn, signal }: AttackContext,
  clients: number,
  once: (at: number) => Promise<void>,
): Promise<void> {
  let at = 0;
  const work = async (): Promise<void> => {
    while (goesOn() && !signal.aborted) await once(at++);
  };
  await Promise.all(Array.from({ length: clients }, work));
}
