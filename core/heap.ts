// Owns the indexed binary heap under the LRU and the load queue: any node can be moved or removed in O(log n).
// Invariants: `before` is a strict total order over the values in the heap; no node comes before its parent; a node's
// `at` is its place in the array, -1 once it has left. A value that changes its rank is put back with `moved` at once.

export interface HeapNode<T> {
  value: T;
  at: number;
}

export interface Heap<T> {
  readonly size: number;
  push(value: T): HeapNode<T>;
  /** The first of all; undefined when empty. */
  first(): HeapNode<T> | undefined;
  /** Call after the node's value got another rank. */
  moved(node: HeapNode<T>): void;
  /** A node that has left already is let be. */
  remove(node: HeapNode<T>): void;
  /** In order, without sorting the rest: k values cost O(k log k). The heap must not change while it is walked. */
  ascending(): Generator<T, void>;
}

export function createHeap<T>(before: (a: T, b: T) => boolean): Heap<T> {
  const nodes: HeapNode<T>[] = [];
  let changes = 0;

  const put = (node: HeapNode<T>, at: number): void => {
    nodes[at] = node;
    node.at = at;
  };

  const settle = (node: HeapNode<T>): void => {
    changes++;
    let at = node.at;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = nodes[up];
      if (parent === undefined || !before(node.value, parent.value)) break;
      put(parent, at);
      at = up;
    }
    for (;;) {
      const left = nodes[2 * at + 1];
      const right = nodes[2 * at + 2];
      const child = left !== undefined && right !== undefined && before(right.value, left.value) ? right : left;
      if (child === undefined || !before(child.value, node.value)) break;
      const down = child.at;
      put(child, at);
      at = down;
    }
    put(node, at);
  };

  return {
    get size(): number {
      return nodes.length;
    },

    push(value: T): HeapNode<T> {
      const node = { value, at: nodes.length };
      nodes.push(node);
      settle(node);
      return node;
    },

    first: () => nodes[0],

    moved(node: HeapNode<T>): void {
      if (nodes[node.at] === node) settle(node);
    },

    remove(node: HeapNode<T>): void {
      if (nodes[node.at] !== node) return;
      const at = node.at;
      const last = nodes.pop();
      node.at = -1;
      changes++;
      if (last === undefined || last === node) return;
      put(last, at);
      settle(last);
    },

    *ascending(): Generator<T, void> {
      const atStart = changes;
      // Only the children of what was given out can be next.
      const frontier = createHeap<HeapNode<T>>((a, b) => before(a.value, b.value));
      const root = nodes[0];
      if (root !== undefined) frontier.push(root);
      for (let next = frontier.first(); next !== undefined; next = frontier.first()) {
        const node = next.value;
        frontier.remove(next);
        for (const child of [nodes[2 * node.at + 1], nodes[2 * node.at + 2]]) if (child !== undefined) frontier.push(child);
        yield node.value;
        if (changes !== atStart) throw new RangeError("changed while it was walked");
      }
    },
  };
}
