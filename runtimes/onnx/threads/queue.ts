// Owns the order in which what waits for one thread is done: each key's items in the order given, keys by turns. So who asks
// a thousand times at once makes the others wait for one of his at a time.

export class TurnQueue<T> {
  /** In the order of turns; no key is without items. */
  readonly #waiting = new Map<number, T[]>();

  push(key: number, item: T): void {
    const items = this.#waiting.get(key);
    if (items === undefined) this.#waiting.set(key, [item]);
    else items.push(item);
  }

  countOf(key: number): number {
    return this.#waiting.get(key)?.length ?? 0;
  }

  /** The next item; its key goes to the end. */
  take(): T | undefined {
    const next = this.#waiting.entries().next();
    if (next.done === true) return undefined;
    const [key, items] = next.value;
    const item = items.shift();
    this.#waiting.delete(key);
    if (items.length > 0) this.#waiting.set(key, items);
    return item;
  }

  /** Whether the item was waiting. */
  remove(key: number, item: T): boolean {
    const items = this.#waiting.get(key);
    const at = items?.indexOf(item) ?? -1;
    if (items === undefined || at === -1) return false;
    items.splice(at, 1);
    if (items.length === 0) this.#waiting.delete(key);
    return true;
  }
}
