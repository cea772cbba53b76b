// Owns which copies of a revision go when there are more than are wanted.
// Invariants: the same arguments give the same answer, whatever the order of the pods; the copies that stay are spread
// over nodes and zones as well as the holders allow, and among equals the busiest pod gives its copy up.
import type { PodView } from "./request.ts";

/** The pods whose copies go, so that `keep` stay. */
export function chooseShrink(holders: readonly PodView[], keep: number): readonly string[] {
  const staying = [...holders];
  const going: string[] = [];
  while (staying.length > Math.max(0, keep)) {
    const worst = staying.reduce((worst, pod) => (isWorse(pod, worst, staying) ? pod : worst));
    staying.splice(staying.indexOf(worst), 1);
    going.push(worst.podId);
  }
  return going;
}

function isWorse(pod: PodView, other: PodView, all: readonly PodView[]): boolean {
  for (const rank of [sameNode, sameZone, load]) {
    const difference = rank(pod, all) - rank(other, all);
    if (difference !== 0) return difference > 0;
  }
  return pod.podId > other.podId;
}

function sameNode({ node }: PodView, all: readonly PodView[]): number {
  return node === undefined ? 0 : all.filter((pod) => pod.node === node).length;
}

function sameZone({ zone }: PodView, all: readonly PodView[]): number {
  return zone === undefined ? 0 : all.filter((pod) => pod.zone === zone).length;
}

function load({ requestsPerSecond }: PodView): number {
  return requestsPerSecond;
}
