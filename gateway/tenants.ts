// Owns what copies of each tenant's models take, all pods together and on each, as the pods' Links tell it.
// Invariants: sums are those of the copies that are counted; a copy counts while it loads or is ready, with what it reserves
// or takes. Nothing is counted until somebody asks for it (`start`), and it is forgotten when nobody does any more.
import { anonymous } from "#core/access.ts";
import type { Model } from "#core/model.ts";
import { type CopyChange, copyKey, type Fleet } from "./fleet.ts";

export interface TenantBytes {
  /** Counts from now on, or no more. */
  count(on: boolean): void;
  readonly counting: boolean;
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** The model may have changed hands; returns the pods that hold it, when it has. */
  onModel(name: string): readonly string[];
  total(tenant: string): number;
  on(podId: string, tenant: string): number;
  /** How many copies the total is of. */
  copies(tenant: string): number;
  /** Whose the models are that the pod holds. */
  ownersOn(podId: string): ReadonlyMap<string, string>;
  /** Those with copies. */
  tenants(): Iterable<string>;
}

interface Counted {
  readonly model: string;
  readonly tenant: string;
  readonly bytes: number;
}

interface Sum {
  bytes: number;
  copies: number;
}

export function createTenantBytes(
  fleet: Pick<Fleet, "pods" | "holders">,
  findModel: (name: string) => Model | undefined,
): TenantBytes {
  let counting = false;
  const byPod = new Map<string, Map<string, Counted>>();
  const totals = new Map<string, Sum>();
  /** `pod tenant`: no pod's id holds a space. */
  const onPods = new Map<string, Sum>();

  function add(sums: Map<string, Sum>, key: string, bytes: number, copies: number): void {
    const sum = sums.get(key) ?? { bytes: 0, copies: 0 };
    sum.bytes += bytes;
    sum.copies += copies;
    if (sum.copies > 0) sums.set(key, sum);
    else sums.delete(key);
  }

  function drop(podId: string, key: string): void {
    const copies = byPod.get(podId);
    const was = copies?.get(key);
    if (copies === undefined || was === undefined) return;
    copies.delete(key);
    if (copies.size === 0) byPod.delete(podId);
    add(totals, was.tenant, -was.bytes, -1);
    add(onPods, `${podId} ${was.tenant}`, -was.bytes, -1);
  }

  function put(podId: string, change: CopyChange): void {
    const key = copyKey(change);
    drop(podId, key);
    if (change.state !== "ready" && change.state !== "loading") return;
    const tenant = tenantOf(change.model);
    const copies = byPod.get(podId) ?? new Map<string, Counted>();
    byPod.set(podId, copies.set(key, { model: change.model, tenant, bytes: change.sizeBytes }));
    add(totals, tenant, change.sizeBytes, 1);
    add(onPods, `${podId} ${tenant}`, change.sizeBytes, 1);
  }

  function tenantOf(model: string): string {
    return findModel(model)?.tenant ?? anonymous;
  }

  return {
    get counting() {
      return counting;
    },
    count(on) {
      if (on === counting) return;
      counting = on;
      for (const sums of [byPod, totals, onPods]) sums.clear();
      if (!on) return;
      for (const { info, copies } of fleet.pods()) for (const copy of copies.values()) put(info.podId, copy);
    },
    onCopies(podId, changes) {
      if (counting) for (const change of changes) put(podId, change);
    },
    onModel(name) {
      if (!counting) return [];
      const tenant = tenantOf(name);
      const holders = Array.from(fleet.holders(name)).filter(({ podId, copy }) => {
        const known = byPod.get(podId)?.get(copyKey(copy));
        return known !== undefined && known.tenant !== tenant;
      });
      for (const { podId, copy } of holders) put(podId, copy);
      return [...new Set(holders.map(({ podId }) => podId))];
    },
    total: (tenant) => totals.get(tenant)?.bytes ?? 0,
    copies: (tenant) => totals.get(tenant)?.copies ?? 0,
    on: (podId, tenant) => onPods.get(`${podId} ${tenant}`)?.bytes ?? 0,
    ownersOn: (podId) => new Map(Array.from(byPod.get(podId)?.values() ?? [], ({ model, tenant }) => [model, tenant])),
    tenants: () => totals.keys(),
  };
}
