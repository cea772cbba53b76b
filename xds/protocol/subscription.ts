// Owns one resource type of one delta xDS stream: what Envoy is subscribed to, what it has, what it is yet to be told.
// Rules: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds
//
//   change, subscribe --> urgent, backlog --> in flight --ACK--> acked
//                            ^     |              |
//                            |     +--> held      |   (a change of what Envoy has, to what needs something that it lacks)
//                            +------------+       |
//                                                 +--NACK, several--> two retry groups --> in flight ...
//                                                 +--NACK, alone----> refused until the version changes
//
// Invariants: one response is in flight, what happens meanwhile meets in the next; a change costs the same whatever the
// number of names; nothing is sent twice unless Envoy asked for it or refused it.
// (More responses in flight were tried: a sync of 100,000 scopes took Envoy the same second with one and with eight.)
import { createHeld } from "./held.ts";
import type {
  AckedResource,
  DeltaResponse,
  RefusedResource,
  ResourceName,
  ResourceView,
  SentResource,
  SessionEffect,
  SessionLimits,
} from "./types.ts";

const wildcardName = "*";
const maxMessageLength = 2_000;
/** Framing of one resource or removal besides its bytes, name and version. */
const overheadBytes = 96;

interface InFlight {
  readonly nonce: string;
  /** Names as sent: `items` loses those that Envoy unsubscribes from in the meantime. */
  readonly size: number;
  /** Name to version; undefined for a removal. */
  readonly items: Map<string, string | undefined>;
  /** Names unsubscribed since: Envoy takes them nevertheless if it covers them once more when the response arrives. */
  readonly dropped: Set<string>;
}

interface Draft {
  readonly resources: SentResource[];
  readonly removed: string[];
  readonly items: Map<string, string | undefined>;
  sizeBytes: number;
}

export class Subscription {
  readonly #typeUrl: string;
  readonly #view: ResourceView;
  readonly #limits: SessionLimits;
  #wildcard = false;
  /** Envoy never named anything: its first list was empty, which stands for the wildcard, for every type. */
  #legacy = false;
  readonly #named = new Set<string>();
  /** What Envoy has. After a NACK it may have the refused version instead: then the name is forced as well. */
  readonly #acked = new Map<string, string>();
  /** To be looked at: changes and named subscriptions go before the backlog of a full sync. */
  readonly #urgent = new Set<string>();
  readonly #backlog = new Set<string>();
  /** To be sent even if Envoy seems to have it. */
  readonly #forced = new Set<string>();
  readonly #groups: (readonly string[])[] = [];
  readonly #inGroup = new Set<string>();
  readonly #refused = new Map<string, RefusedResource>();
  readonly #held = createHeld();
  readonly #lacks: (typeUrl: string, name: string) => ResourceName | undefined;
  #inFlight: InFlight | undefined;
  /** The wildcard is answered even when it matches nothing: Envoy's start waits for it. */
  #owesAnswer = false;
  #groupsTurn = false;
  /** What Envoy had and has just unsubscribed from. */
  #dropped: AckedResource[] = [];

  /** `initial`: of the first request of the type on the stream. `lacks`: what Envoy needs for it, and does not have. */
  constructor(
    typeUrl: string,
    view: ResourceView,
    limits: SessionLimits,
    initial: Readonly<Record<string, string>>,
    lacks: (typeUrl: string, name: string) => ResourceName | undefined,
  ) {
    this.#lacks = lacks;
    this.#typeUrl = typeUrl;
    this.#view = view;
    this.#limits = limits;
    for (const name of Object.keys(initial)) {
      const version = initial[name];
      if (version !== undefined) this.#acked.set(name, version);
    }
  }

  /** Something waits that was not sent yet (retries of refused responses aside). */
  get unsent(): boolean {
    return this.#urgent.size > 0 || this.#backlog.size > 0 || this.#owesAnswer;
  }

  /** Envoy has acknowledged it, at whatever version. */
  has(name: string): boolean {
    return this.#acked.has(name);
  }

  isLive(name: string, version: string | undefined): boolean {
    if (version !== undefined) return this.#acked.get(name) === version;
    // What is under way, or was refused among others, may be in Envoy.
    const underWay = this.#inFlight?.items.get(name) !== undefined || this.#inFlight?.dropped.has(name) === true;
    return !this.#acked.has(name) && !this.#forced.has(name) && !underWay;
  }

  refused(): Iterable<RefusedResource> {
    return this.#refused.values();
  }

  /** The subscriptions of the first request. Returns what Envoy says it still has from an earlier stream. */
  open(subscribe: readonly string[], unsubscribe: readonly string[]): SessionEffect | undefined {
    this.#legacy = subscribe.length === 0;
    if (this.#legacy) this.#openWildcard();
    for (const name of subscribe) {
      if (name === wildcardName) this.#openWildcard();
      else {
        this.#named.add(name);
        if (!this.#acked.has(name)) this.#forced.add(name);
        this.#urgent.add(name);
      }
    }
    for (const name of unsubscribe) this.#unsubscribe(name);
    for (const name of this.#acked.keys()) if (!this.#covers(name)) this.#acked.delete(name);
    this.#dropped = [];
    if (this.#acked.size === 0) return undefined;
    const resources = Array.from(this.#acked, ([name, version]): AckedResource => ({ name, version }));
    return { kind: "acked", typeUrl: this.#typeUrl, resources };
  }

  /** The subscriptions of a later request. Returns what Envoy had and drops by it. */
  update(subscribe: readonly string[], unsubscribe: readonly string[]): SessionEffect | undefined {
    for (const name of subscribe) {
      if (name === wildcardName) this.#subscribeWildcard();
      else {
        this.#named.add(name);
        // Envoy may have forgotten what it has of a name that it asks for again, so it is always answered.
        this.#forced.add(name);
        this.#refused.delete(name);
        this.#enqueue(name, this.#urgent);
      }
    }
    if (subscribe.length > 0) this.#legacy = false;
    for (const name of unsubscribe) this.#unsubscribe(name);
    if (this.#dropped.length === 0) return undefined;
    const resources = this.#dropped;
    this.#dropped = [];
    return { kind: "acked", typeUrl: this.#typeUrl, resources };
  }

  changed(name: string): void {
    if (!this.#covers(name)) return;
    this.#backlog.delete(name);
    this.#enqueue(name, this.#urgent);
  }

  /** Envoy has these now: what was held for one of them is looked at again. */
  release(typeUrl: string, resources: readonly AckedResource[]): void {
    if (this.#held.size === 0) return;
    for (const needed of resources) {
      if (needed.version === undefined) continue;
      for (const name of this.#held.release({ typeUrl, name: needed.name })) this.#enqueue(name, this.#urgent);
    }
  }

  /** Envoy's verdict on one response. A nonce that is not in flight is stale and says nothing. */
  resolve(nonce: string, error: string | undefined): SessionEffect | undefined {
    const response = this.#inFlight;
    if (response?.nonce !== nonce) return undefined;
    this.#inFlight = undefined;
    const effect = error === undefined ? this.#accept(response) : this.#refuse(response, error.slice(0, maxMessageLength));
    for (const name of response.dropped) {
      if (!this.#covers(name)) continue;
      this.#forced.add(name);
      this.#enqueue(name, this.#urgent);
    }
    return effect;
  }

  /** The next response that may be sent now. */
  next(nonce: () => string): DeltaResponse | undefined {
    if (this.#inFlight !== undefined) return undefined;
    while (this.unsent || this.#groups.length > 0) {
      const draft: Draft = { resources: [], removed: [], items: new Map(), sizeBytes: 0 };
      // Turn about, so that neither a long retry holds up changes nor the other way round.
      const fromGroup = this.#groups.length > 0 && (this.#groupsTurn || !this.unsent);
      this.#groupsTurn = !fromGroup;
      if (fromGroup) this.#fillFromGroup(draft);
      else if (this.#fillFrom(this.#urgent, draft)) this.#fillFrom(this.#backlog, draft);
      if (draft.items.size > 0 || (this.#owesAnswer && !fromGroup)) {
        this.#owesAnswer = false;
        return this.#send(nonce(), draft);
      }
    }
    return undefined;
  }

  #covers(name: string): boolean {
    return this.#wildcard || this.#named.has(name);
  }

  #openWildcard(): void {
    if (this.#wildcard) return;
    this.#wildcard = true;
    this.#owesAnswer = true;
    for (const name of this.#view.names(this.#typeUrl)) this.#enqueue(name, this.#backlog);
    // What Envoy has from an earlier stream and the table no longer has is found by looking at it too.
    for (const name of this.#acked.keys()) this.#enqueue(name, this.#backlog);
  }

  #subscribeWildcard(): void {
    // Naming "*" after the legacy wildcard continues it; asking for it once more asks for everything once more.
    if (!this.#wildcard) this.#openWildcard();
    else if (!this.#legacy) {
      this.#owesAnswer = true;
      for (const name of this.#view.names(this.#typeUrl)) {
        this.#forced.add(name);
        this.#enqueue(name, this.#backlog);
      }
    }
  }

  #unsubscribe(name: string): void {
    if (name === wildcardName) this.#closeWildcard();
    else if (this.#named.delete(name)) {
      if (!this.#wildcard) this.#forget(name);
      else {
        // The wildcard may still cover it: Envoy is told whether it does.
        this.#forced.add(name);
        this.#enqueue(name, this.#urgent);
      }
    }
  }

  #closeWildcard(): void {
    if (!this.#wildcard) return;
    this.#wildcard = false;
    this.#legacy = false;
    this.#owesAnswer = false;
    const holders = [
      this.#acked,
      this.#inFlight?.items ?? new Map<string, never>(),
      this.#forced,
      this.#refused,
      this.#urgent,
      this.#backlog,
      this.#held,
    ];
    const names = new Set(holders.flatMap((holder) => [...holder.keys()]));
    for (const name of names) if (!this.#named.has(name)) this.#forget(name);
  }

  /** Envoy drops what it no longer asks for, and so does the session: also from a response under way. */
  #forget(name: string): void {
    if (this.#acked.delete(name)) this.#dropped.push({ name, version: undefined });
    this.#forced.delete(name);
    this.#refused.delete(name);
    this.#held.delete(name);
    this.#urgent.delete(name);
    this.#backlog.delete(name);
    this.#inGroup.delete(name);
    if (this.#inFlight?.items.delete(name) === true) this.#inFlight.dropped.add(name);
  }

  #enqueue(name: string, queue: Set<string>): void {
    // A retry group reads the table when its turn comes.
    if (!this.#inGroup.has(name)) queue.add(name);
  }

  /** Moves names into the draft. False when it is full and names are left. */
  #fillFrom(queue: Set<string>, draft: Draft): boolean {
    for (const name of queue) {
      if (!this.#put(name, draft)) return false;
      queue.delete(name);
    }
    return true;
  }

  #fillFromGroup(draft: Draft): void {
    const group = this.#groups.pop() ?? [];
    for (const [index, name] of group.entries()) {
      if (!this.#put(name, draft)) {
        this.#groups.push(group.slice(index));
        return;
      }
      this.#inGroup.delete(name);
    }
  }

  /** Puts a name into the draft if Envoy must hear of it. False when the draft is full. */
  #put(name: string, draft: Draft): boolean {
    if (draft.items.has(name)) return true;
    if (!this.#covers(name)) {
      this.#forced.delete(name);
      return true;
    }
    this.#held.delete(name);
    const now = this.#view.get(this.#typeUrl, name);
    const refused = this.#refused.get(name);
    if (refused !== undefined && refused.version === now?.version) return true;
    const isForced = this.#forced.has(name);
    if (!isForced && this.#acked.get(name) === now?.version) return true;
    const lacking = isForced || now === undefined || !this.#acked.has(name) ? undefined : this.#lacks(this.#typeUrl, name);
    if (lacking !== undefined) {
      this.#held.add(name, lacking);
      return true;
    }
    const sizeBytes = overheadBytes + name.length + (now === undefined ? 0 : now.bytes.length + now.version.length);
    if (draft.items.size > 0 && draft.sizeBytes + sizeBytes > this.#limits.maxResponseBytes) return false;
    draft.sizeBytes += sizeBytes;
    this.#forced.delete(name);
    draft.items.set(name, now?.version);
    if (now === undefined) draft.removed.push(name);
    else draft.resources.push({ name, version: now.version, bytes: now.bytes });
    return true;
  }

  #send(nonce: string, draft: Draft): DeltaResponse {
    const { items, resources, removed } = draft;
    this.#inFlight = { nonce, size: items.size, items, dropped: new Set() };
    return { typeUrl: this.#typeUrl, nonce, resources, removed };
  }

  #accept(response: InFlight): SessionEffect | undefined {
    if (response.items.size === 0) return undefined;
    const resources: AckedResource[] = [];
    for (const [name, version] of response.items) {
      if (this.#refused.size > 0) this.#refused.delete(name);
      if (version === undefined) this.#acked.delete(name);
      else this.#acked.set(name, version);
      resources.push({ name, version });
    }
    return { kind: "acked", typeUrl: this.#typeUrl, resources };
  }

  #refuse(response: InFlight, message: string): SessionEffect {
    const typeUrl = this.#typeUrl;
    const names = [...response.items.keys()];
    // Envoy may have taken a part of it: whatever comes next of these names is sent for certain.
    for (const name of names) this.#forced.add(name);
    const final = response.size === 1;
    if (final) for (const [name, version] of response.items) this.#refused.set(name, { typeUrl, name, version, message });
    else {
      const half = Math.ceil(names.length / 2);
      for (const group of [names.slice(0, half), names.slice(half)]) {
        if (group.length > 0) this.#groups.push(group);
        for (const name of group) this.#inGroup.add(name);
      }
    }
    return { kind: "nacked", typeUrl, names, message, final };
  }
}
