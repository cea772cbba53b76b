// A session against a naive Envoy: whatever happens, when nothing is left to do Envoy has what the table has.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  createDeltaSession,
  type DeltaRequest,
  type DeltaResponse,
  type DeltaSession,
  type SessionEffect,
  typeUrls,
} from "./session.ts";

const types = [typeUrls.cluster, typeUrls.route, typeUrls.scope] as const;
const names = ["a", "b", "c", "d", "e", "f"] as const;
const maxResponseBytes = 350;

/** Scopes of these names need the route configuration of the same name. */
const needy: readonly string[] = ["a", "b", "c"];

/** Envoy refuses a response with any such version in it. */
const isBad = (version: string): boolean => Number(version) % 4 === 3;

interface Told {
  readonly request: DeltaRequest;
  /** What Envoy had when it wrote the request. */
  readonly has: ReadonlyMap<string, string>;
}

/** The client side of one type, as the protocol's documentation has it. */
class EnvoyType {
  readonly typeUrl: string;
  started = false;
  wildcard = false;
  legacy = false;
  readonly named = new Set<string>();
  /** In effect; a refused response may leave a part of itself here. */
  applied = new Map<string, string>();
  /** Of accepted responses: what a reconnect claims to have. */
  accepted = new Map<string, string>();
  /** Asked for by name and not answered yet. */
  readonly expecting = new Set<string>();
  expectsAny = false;
  readonly inbox: DeltaResponse[] = [];
  readonly outbox: Told[] = [];

  constructor(typeUrl: string) {
    this.typeUrl = typeUrl;
  }

  covers(name: string): boolean {
    return this.wildcard || this.named.has(name);
  }

  tell(rest: Partial<DeltaRequest>): void {
    const request = {
      typeUrl: this.typeUrl,
      responseNonce: "",
      subscribe: [],
      unsubscribe: [],
      initialResourceVersions: {},
      ...rest,
    };
    this.outbox.push({ request, has: new Map(this.applied) });
  }

  start(subscribe: readonly string[]): void {
    this.started = true;
    this.legacy = subscribe.length === 0;
    this.wildcard = this.legacy || subscribe.includes("*");
    this.expectsAny = this.wildcard;
    for (const name of subscribe) if (name !== "*") this.named.add(name);
    for (const name of this.named) if (!this.accepted.has(name)) this.expecting.add(name);
    this.tell({ subscribe, initialResourceVersions: Object.fromEntries(this.accepted) });
  }

  subscribe(name: string, withAck: Partial<DeltaRequest> = {}): void {
    if (name === "*") {
      if (!this.wildcard || !this.legacy) this.expectsAny = true;
      this.wildcard = true;
    } else {
      this.named.add(name);
      this.expecting.add(name);
    }
    this.legacy = false;
    this.tell({ ...withAck, subscribe: [name] });
  }

  unsubscribe(name: string): void {
    if (name === "*") this.wildcard = this.expectsAny = this.legacy = false;
    else if (this.named.delete(name)) {
      this.expecting.delete(name);
      if (this.wildcard) this.expecting.add(name);
    }
    for (const map of [this.applied, this.accepted]) for (const key of map.keys()) if (!this.covers(key)) map.delete(key);
    for (const key of this.expecting) if (!this.covers(key)) this.expecting.delete(key);
    this.tell({ unsubscribe: [name] });
  }

  /** Takes one response; what it refuses it may have taken in part. */
  receive(partly: number, subscribe: string | undefined): void {
    const response = this.inbox.shift();
    if (response === undefined) return;
    this.expectsAny = false;
    for (const name of [...response.removed, ...response.resources.map((r) => r.name)]) this.expecting.delete(name);
    const bad = response.resources.some(({ name, version }) => this.covers(name) && isBad(version));
    for (const [index, { name, version }] of response.resources.entries()) {
      if (!this.covers(name) || isBad(version) || (bad && (partly >> (index % 4)) % 2 === 0)) continue;
      this.applied.set(name, version);
      if (!bad) this.accepted.set(name, version);
    }
    for (const [index, name] of response.removed.entries()) {
      if (bad && (partly >> (index % 4)) % 2 === 0) continue;
      this.applied.delete(name);
      if (!bad) this.accepted.delete(name);
    }
    const verdict = { responseNonce: response.nonce, ...(bad ? { errorDetail: "refused" } : {}) };
    if (subscribe === undefined) this.tell(verdict);
    else {
      const has = new Map(this.applied);
      this.subscribe(subscribe, verdict);
      const told = this.outbox.pop();
      if (told !== undefined) this.outbox.push({ request: told.request, has });
    }
  }

  /** The stream is gone; what a refused response left behind is forgotten with it, as its versions are not known. */
  reconnect(): void {
    this.inbox.length = 0;
    this.outbox.length = 0;
    this.expecting.clear();
    this.applied = new Map(this.accepted);
    this.started &&= this.wildcard || this.named.size > 0;
    if (this.started) this.start(this.legacy ? [] : [...(this.wildcard ? ["*"] : []), ...this.named]);
  }
}

class World {
  readonly table = new Map<string, Map<string, string>>(types.map((typeUrl) => [typeUrl, new Map()]));
  readonly envoy = types.map((typeUrl) => new EnvoyType(typeUrl));
  session: DeltaSession;
  /** What the effects of the session add up to. */
  readonly told = new Map<string, string | undefined>();
  readonly inFlight = new Map<string, Set<string>>();
  versions = 0;
  sent = 0;

  constructor() {
    this.session = this.open();
  }

  open(): DeltaSession {
    this.inFlight.clear();
    this.told.clear();
    const view = {
      get: (typeUrl: string, name: string) => {
        const version = this.table.get(typeUrl)?.get(name);
        return version === undefined ? undefined : { version, bytes: Buffer.alloc(20) };
      },
      names: (typeUrl: string) => this.table.get(typeUrl)?.keys() ?? [],
      needs: (typeUrl: string, name: string) =>
        typeUrl === typeUrls.scope && needy.includes(name) ? { typeUrl: typeUrls.route, name } : undefined,
    };
    return createDeltaSession(view, { maxResponseBytes });
  }

  type(index: number): EnvoyType {
    const type = this.envoy[index % types.length];
    assert.ok(type);
    return type;
  }

  change(index: number, changes: readonly (readonly [string, boolean])[]): void {
    const { typeUrl } = this.type(index);
    for (const [name, exists] of changes) {
      this.versions += 1;
      if (exists) this.table.get(typeUrl)?.set(name, String(this.versions));
      else this.table.get(typeUrl)?.delete(name);
    }
    this.session.handle({ kind: "changed", typeUrl, names: changes.map(([name]) => name) });
  }

  /** The server writes one response. */
  write(): boolean {
    const response = this.session.next();
    if (response === undefined) return false;
    this.sent += 1;
    const { typeUrl, nonce, resources, removed } = response;
    const all = [...resources.map((r) => r.name), ...removed];
    assert.equal(new Set(all).size, all.length, "a name stands once in a response");
    assert.ok(all.length <= 3, "a response keeps to its size");
    const flying = this.inFlight.get(typeUrl) ?? new Set();
    assert.equal(flying.size, 0, "one response is in flight");
    this.inFlight.set(typeUrl, flying.add(nonce));
    this.envoy.find((type) => type.typeUrl === typeUrl)?.inbox.push(response);
    return true;
  }

  /** The server reads one request. */
  read(type: EnvoyType): boolean {
    const told = type.outbox.shift();
    if (told === undefined) return false;
    this.inFlight.get(type.typeUrl)?.delete(told.request.responseNonce);
    this.note(this.session.handle({ kind: "request", request: told.request }), told);
    return true;
  }

  note(effects: readonly SessionEffect[], { has, request }: Told): void {
    for (const effect of effects) {
      if (effect.kind === "nacked") continue;
      for (const { name, version } of effect.resources) {
        const unsubscribed = version === undefined && request.unsubscribe.length > 0;
        if (!unsubscribed) assert.equal(has.get(name), version, `${name} was said to be at ${version}`);
        this.told.set(`${effect.typeUrl} ${name}`, version);
      }
    }
  }

  settle(): void {
    const before = this.sent;
    for (let busy = true; busy; ) {
      busy = this.write();
      for (const type of this.envoy) {
        if (type.inbox.length > 0) busy = true;
        type.receive(0, undefined);
        busy = this.read(type) || busy;
      }
      assert.ok(this.sent - before < 200, "the work is bounded");
    }
  }

  /** Envoy has the scope, though not at this version, and not what it needs to change to it. */
  isHeld(typeUrl: string, name: string, version: string | undefined, has: string | undefined): boolean {
    if (typeUrl !== typeUrls.scope || !needy.includes(name) || version === undefined) return false;
    const routes = this.envoy.find((type) => type.typeUrl === typeUrls.route);
    return has !== undefined && has !== version && routes?.accepted.has(name) !== true;
  }

  check(): void {
    const refused = new Set(this.session.refused().map(({ typeUrl, name, version }) => `${typeUrl} ${name} ${version}`));
    const expected = new Set<string>();
    for (const type of this.envoy) {
      assert.equal(type.expectsAny, false, "the wildcard was answered");
      for (const name of names) {
        const key = `${type.typeUrl} ${name}`;
        const version = this.table.get(type.typeUrl)?.get(name);
        const has = type.applied.get(name);
        if (!type.covers(name)) {
          assert.equal(has, undefined);
          if (version !== undefined) assert.equal(this.session.isLive(type.typeUrl, name, version), false);
        } else if (this.isHeld(type.typeUrl, name, version, has)) {
          assert.equal(this.session.isLive(type.typeUrl, name, version), false);
          if (version !== undefined && refused.has(`${key} ${version}`)) expected.add(`${key} ${version}`);
        } else if (version !== undefined && isBad(version)) {
          expected.add(`${key} ${version}`);
          assert.equal(this.session.isLive(type.typeUrl, name, version), false);
        } else {
          assert.equal(this.session.isLive(type.typeUrl, name, undefined), version === undefined);
          assert.equal(has, version, `${key} in Envoy`);
          assert.equal(this.told.get(key), version, `${key} as told`);
          assert.equal(type.expecting.has(name), false, `${key} was answered`);
          if (version !== undefined) assert.ok(this.session.isLive(type.typeUrl, name, version));
        }
      }
    }
    assert.deepEqual(refused, expected);
  }
}

const nameArb = fc.constantFrom(...names);
const typeArb = fc.nat({ max: 2 });
const stepArb = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("change" as const),
      type: typeArb,
      changes: fc.array(fc.tuple(nameArb, fc.boolean()), { minLength: 1, maxLength: 4 }),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("write" as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("receive" as const),
      type: typeArb,
      partly: fc.nat({ max: 15 }),
      subscribe: fc.option(nameArb, { nil: undefined, freq: 5 }),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("read" as const), type: typeArb }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("subscribe" as const),
      type: typeArb,
      name: fc.oneof({ weight: 5, arbitrary: nameArb }, fc.constant("*")),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("unsubscribe" as const),
      type: typeArb,
      name: fc.oneof({ weight: 5, arbitrary: nameArb }, fc.constant("*")),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("start" as const), type: typeArb, subscribe: fc.subarray(["*", ...names]) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("stale" as const), type: typeArb, bad: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reconnect" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("settle" as const) }) },
);

type Step = typeof stepArb extends fc.Arbitrary<infer T> ? T : never;

function play(world: World, step: Step): void {
  switch (step.do) {
    case "change":
      return world.change(step.type, step.changes);
    case "write":
      world.write();
      return;
    case "receive":
      return world.type(step.type).receive(step.partly, step.subscribe);
    case "read":
      world.read(world.type(step.type));
      return;
    case "subscribe":
      if (world.type(step.type).started) world.type(step.type).subscribe(step.name);
      return;
    case "unsubscribe":
      if (world.type(step.type).started) world.type(step.type).unsubscribe(step.name);
      return;
    case "start":
      if (!world.type(step.type).started) world.type(step.type).start(step.subscribe);
      return;
    case "stale":
      if (world.type(step.type).started)
        world.type(step.type).tell({ responseNonce: "0", ...(step.bad ? { errorDetail: "old" } : {}) });
      return;
    case "reconnect":
      world.session.handle({ kind: "closed" });
      world.session = world.open();
      for (const type of world.envoy) type.reconnect();
      return;
    case "settle":
      world.settle();
      world.check();
  }
}

test("at rest Envoy has exactly the table's subscribed resources, refused ones aside", () => {
  fc.assert(
    fc.property(fc.array(stepArb, { maxLength: 120, size: "max" }), (steps) => {
      const world = new World();
      for (const step of steps) play(world, step);
      world.settle();
      world.check();
    }),
    { numRuns: 5_000 },
  );
});
