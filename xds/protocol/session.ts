// Owns one delta xDS stream without its IO: all types of one Envoy, the nonces, and the order between types.
// Deterministic: the same events and the same table give the same responses and effects.
// Order: a type is held back while a type before it in `chain` has something unsent, so that what is referred to
// (clusters, then route configurations) reaches Envoy before what refers to it. Other types go independently. Envoy asks for
// a route configuration only when a scope names it; so what Envoy has already changes only when it has what it then needs.
import { Subscription } from "./subscription.ts";
import type {
  DeltaRequest,
  DeltaResponse,
  RefusedResource,
  ResourceName,
  ResourceView,
  SessionEffect,
  SessionEvent,
  SessionLimits,
} from "./types.ts";

export type {
  AckedResource,
  DeltaRequest,
  DeltaResponse,
  RefusedResource,
  ResourceState,
  ResourceView,
  SessionEffect,
  SessionEvent,
  SessionLimits,
} from "./types.ts";

/** The types of xDS that a session knows by name; any other type is served the same, without an order. */
export const typeUrls = {
  cluster: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  endpoints: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  listener: "type.googleapis.com/envoy.config.listener.v3.Listener",
  route: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
  scope: "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
} as const;

const chain: readonly string[] = [typeUrls.cluster, typeUrls.route, typeUrls.scope];

const defaultLimits: SessionLimits = { maxResponseBytes: 3 * 1024 * 1024 };

export interface DeltaSession {
  /** Takes in what happened; returns what Envoy has told by it. Sends nothing: ask `next`. */
  handle(event: SessionEvent): readonly SessionEffect[];
  /** The next response that may be written now, or undefined until something happens. */
  next(): DeltaResponse | undefined;
  /** Whether this Envoy has ACKed exactly this version and not been told otherwise since; undefined: it has none. */
  isLive(typeUrl: string, name: string, version: string | undefined): boolean;
  refused(): readonly RefusedResource[];
}

export function createDeltaSession(view: ResourceView, limits: Partial<SessionLimits> = {}): DeltaSession {
  return new Session(view, { ...defaultLimits, ...limits });
}

class Session implements DeltaSession {
  readonly #view: ResourceView;
  readonly #limits: SessionLimits;
  readonly #types = new Map<string, Subscription>();
  #closed = false;
  #nonces = 0;
  readonly #nonce = (): string => {
    this.#nonces += 1;
    return String(this.#nonces);
  };

  readonly #lacks = (typeUrl: string, name: string): ResourceName | undefined => {
    const needed = this.#view.needs?.(typeUrl, name);
    return needed === undefined || this.#types.get(needed.typeUrl)?.has(needed.name) === true ? undefined : needed;
  };

  constructor(view: ResourceView, limits: SessionLimits) {
    this.#view = view;
    this.#limits = limits;
  }

  handle(event: SessionEvent): readonly SessionEffect[] {
    if (this.#closed) return [];
    if (event.kind === "request") return this.#request(event.request);
    if (event.kind === "closed") {
      this.#closed = true;
      this.#types.clear();
      return [];
    }
    const type = this.#types.get(event.typeUrl);
    if (type !== undefined) for (const name of event.names) type.changed(name);
    return [];
  }

  next(): DeltaResponse | undefined {
    let heldBack = false;
    for (const typeUrl of chain) {
      const type = this.#types.get(typeUrl);
      if (type === undefined) continue;
      const response = heldBack ? undefined : type.next(this.#nonce);
      if (response !== undefined) return response;
      heldBack ||= type.unsent;
    }
    for (const [typeUrl, type] of this.#types) {
      const response = chain.includes(typeUrl) ? undefined : type.next(this.#nonce);
      if (response !== undefined) return response;
    }
    return undefined;
  }

  isLive(typeUrl: string, name: string, version: string | undefined): boolean {
    return this.#types.get(typeUrl)?.isLive(name, version) ?? false;
  }

  refused(): readonly RefusedResource[] {
    return [...this.#types.values()].flatMap((type) => [...type.refused()]);
  }

  #request(request: DeltaRequest): readonly SessionEffect[] {
    const { typeUrl, subscribe, unsubscribe } = request;
    const type = this.#types.get(typeUrl);
    if (type === undefined) {
      const first = new Subscription(typeUrl, this.#view, this.#limits, request.initialResourceVersions, this.#lacks);
      this.#types.set(typeUrl, first);
      return this.#tell([first.open(subscribe, unsubscribe)]);
    }
    // The verdict comes first: it is on what was subscribed before.
    const verdict = request.responseNonce === "" ? undefined : type.resolve(request.responseNonce, request.errorDetail);
    return this.#tell([verdict, type.update(subscribe, unsubscribe)]);
  }

  /** Lets go what waited for what Envoy has now. */
  #tell(effects: readonly (SessionEffect | undefined)[]): readonly SessionEffect[] {
    const told = effects.filter((effect) => effect !== undefined);
    for (const effect of told) {
      if (effect.kind !== "acked") continue;
      for (const type of this.#types.values()) type.release(effect.typeUrl, effect.resources);
    }
    return told;
  }
}
