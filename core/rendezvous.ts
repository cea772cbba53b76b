// Owns rendezvous (highest random weight) hashing: who is home for a key, and how ties are spread.
// Invariants: the order depends on key and node names alone, never on the order they come in; taking a node away moves
// only the keys it was first for.
// Sources: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); FNV-1a, IETF draft
// eastlake-fnv; the 32-bit finaliser of MurmurHash3 (Austin Appleby, public domain). Not for secrets.

const fnvOffset = 0x811c9dc5;
const fnvPrime = 0x01000193;
// Another start for nodes, so that a key that is spelled like a node is no special case.
const nodeOffset = 0x9e3779b9;

/** FNV-1a over UTF-16 code units, low byte first, high byte only when there is one: plain FNV-1a for ASCII. */
export function fnv1a32(text: string, offset: number = fnvOffset): number {
  let hash = offset;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    hash = Math.imul(hash ^ (unit & 0xff), fnvPrime);
    if (unit > 0xff) hash = Math.imul(hash ^ (unit >>> 8), fnvPrime);
  }
  return hash >>> 0;
}

/** Spreads every bit of the input over all bits of the result; a bijection. */
export function mix32(hash: number): number {
  let mixed = hash;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/** The weight of a node for a key, 0 to 2^32 - 1; the highest wins. */
export function rendezvousWeight(key: string, node: string): number {
  return rendezvousWeights(key)(node);
}

/** The same for many nodes of one key. */
export function rendezvousWeights(key: string): (node: string) => number {
  const mixed = mix32(fnv1a32(key));
  return (node) => mix32(mixed ^ mix32(fnv1a32(node, nodeOffset)));
}

/** All nodes, the best for the key first. */
export function rendezvousOrder(key: string, nodes: Iterable<string>): string[] {
  return Array.from(nodes, (node) => ({ node, weight: rendezvousWeight(key, node) }))
    .sort((a, b) => b.weight - a.weight || compareText(a.node, b.node))
    .map(({ node }) => node);
}

/** The best node for the key, in one pass; undefined without nodes. */
export function rendezvousPick(key: string, nodes: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestWeight = -1;
  for (const node of nodes) {
    const weight = rendezvousWeight(key, node);
    if (best === undefined || weight > bestWeight || (weight === bestWeight && node < best)) {
      best = node;
      bestWeight = weight;
    }
  }
  return best;
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
