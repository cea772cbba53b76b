// Owns who decides on a model: its home, the gateway with the highest rendezvous weight among those that live.
// A gateway that did not answer lately is passed over, so the next one in the order decides, and everybody who saw the
// same comes to the same one. Whoever has seen something else decides as well: then both see on their Links what the
// other has asked of pods, and join it.
import { rendezvousPick } from "#core/rendezvous.ts";
import type { Clock } from "#platform/clock.ts";

export interface Member {
  readonly gatewayId: string;
  readonly incarnation: string;
  readonly peerAddress: string;
}

export interface Home {
  setMember(member: Member): void;
  removeMember(gatewayId: string): void;
  /** Undefined: this gateway. */
  of(model: string, passedOver?: ReadonlySet<string>): Member | undefined;
  isHere(model: string): boolean;
  /** It did not answer: for a while others decide. */
  suspect(gatewayId: string): void;
  /** Others than this one. */
  members(): Iterable<Member>;
}

export interface HomeParts {
  readonly gatewayId: string;
  readonly clock: Pick<Clock, "monotonicMs">;
  /** A member came, went or started anew. */
  readonly onChange: (member: Member, there: boolean) => void;
}

const suspicionMs = 2_000;
const nobody: ReadonlySet<string> = new Set();

export function createHome({ gatewayId: here, clock, onChange }: HomeParts): Home {
  const others = new Map<string, Member>();
  const suspects = new Map<string, number>();

  function* candidates(passedOver: ReadonlySet<string>): Generator<string, void> {
    yield here;
    for (const id of others.keys()) if (!passedOver.has(id) && !isSuspect(id)) yield id;
  }

  function isSuspect(id: string): boolean {
    const untilMs = suspects.get(id);
    if (untilMs === undefined) return false;
    if (clock.monotonicMs() < untilMs) return true;
    suspects.delete(id);
    return false;
  }

  function of(model: string, passedOver: ReadonlySet<string> = nobody): Member | undefined {
    if (others.size === 0) return undefined;
    const best = rendezvousPick(model, candidates(passedOver));
    return best === undefined ? undefined : others.get(best);
  }

  return {
    setMember(member) {
      if (member.gatewayId === here) return;
      const was = others.get(member.gatewayId);
      others.set(member.gatewayId, member);
      suspects.delete(member.gatewayId);
      if (was?.incarnation !== member.incarnation || was.peerAddress !== member.peerAddress) onChange(member, true);
    },
    removeMember(gatewayId) {
      const was = others.get(gatewayId);
      suspects.delete(gatewayId);
      if (others.delete(gatewayId) && was !== undefined) onChange(was, false);
    },
    of,
    isHere: (model) => of(model) === undefined,
    suspect: (gatewayId) => void suspects.set(gatewayId, clock.monotonicMs() + suspicionMs),
    members: () => others.values(),
  };
}
