// The public entry of xds: a table that the gateway writes, and the server that Envoy reads it from.
import type { Server } from "@grpc/grpc-js";
import type { Log } from "#platform/log.ts";
import { createResourceCheck } from "./check.ts";
import { createXdsHandlers } from "./protocol/server.ts";
import { createScopeNames, nameOfTold, shortScopeName, tellVersion } from "./scopenames.ts";
import { createRouteTable, type ResourceRef, type RouteTable, type TableOptions } from "./table.ts";
import { typeUrls } from "./typeurls.ts";

export { isPodCluster, type PodAddress, podClusterName, setClusterOf } from "./resources/set.ts";
export { sweepMs } from "./sets.ts";
export type { ResourceRef, RouteShare, RouteTable, RouteTarget } from "./table.ts";
export { typeUrls } from "./typeurls.ts";

export interface Xds {
  readonly table: RouteTable;
  addTo(server: Server): void;
  /** An Envoy is connected, and every one has acknowledged this resource at this version. */
  isAcked(ref: ResourceRef): boolean;
  /** Takes out placement sets that are no longer used; to be called every `sweepMs`. */
  sweep(): void;
  readonly connected: boolean;
  close(): void;
}

export interface XdsListener {
  /** `tookMs`: from the response that was sent to Envoy to its acknowledgement. */
  onAcked(typeUrl: string, names: readonly string[], tookMs: number): void;
  /** An Envoy that outlived its gateway has a scope for this principal: may it keep it? No, when absent. */
  readonly mayKeep?: (model: string, principal: string) => boolean;
  /** Envoy refuses this resource at its present version, and it will not be sent again. */
  onRefused(typeUrl: string, names: readonly string[], message: string): void;
}

export function createXds(listener: XdsListener, log: Log, options: TableOptions = { auth: false }): Xds {
  const isScope = (typeUrl: string): boolean => typeUrl === typeUrls.scope;
  // Where callers prove who they are, a gateway that starts anew learns of its Envoy whom it has let in.
  const versionOf = (version: string, name: string): string => tellVersion(version, name, options.auth);
  const names = createScopeNames((name) => table.needs(typeUrls.scope, name) !== undefined);
  /** By the names of the table. */
  const tableNames = (typeUrl: string, told: readonly string[]): readonly string[] =>
    isScope(typeUrl) ? told.map((name) => names.find(name) ?? name) : told;
  const handlers = createXdsHandlers({
    view: {
      get(typeUrl, told) {
        if (!isScope(typeUrl)) return table.get(typeUrl, told);
        const name = names.find(told);
        const found = name === undefined ? undefined : table.get(typeUrl, name);
        return name === undefined || found === undefined ? undefined : { ...found, version: versionOf(found.version, name) };
      },
      names: (typeUrl) => (isScope(typeUrl) ? Iterator.from(table.names(typeUrl)).map(shortScopeName) : table.names(typeUrl)),
      needs(typeUrl, told) {
        const name = isScope(typeUrl) ? names.find(told) : told;
        return name === undefined ? undefined : table.needs(typeUrl, name);
      },
    },
    log,
    onAcked({ typeUrl, resources, tookMs }) {
      const told = resources.map(({ name }) => name);
      listener.onAcked(typeUrl, tableNames(typeUrl, told), tookMs);
      if (!isScope(typeUrl)) return;
      for (const { name, version } of resources) if (version === undefined) names.gone(name);
    },
    onNacked({ typeUrl, names: told, message, final }) {
      if (final) listener.onRefused(typeUrl, tableNames(typeUrl, told), message);
    },
    onInitial({ typeUrl, versions }) {
      if (!isScope(typeUrl)) return;
      const known = Object.entries(versions).flatMap(([name, version]) => nameOfTold(name, version) ?? []);
      for (const name of known) names.changed(name);
      table.adopt(known, listener.mayKeep ?? (() => false));
    },
    onConnected: () => undefined,
    onDisconnected() {
      if (handlers.connected().length === 0) names.forget();
    },
  });
  const onChange = (typeUrl: string, changed: readonly string[]): void => {
    if (!isScope(typeUrl)) return handlers.notify(typeUrl, changed);
    for (const name of changed) names.changed(name);
    handlers.notify(typeUrl, changed.map(shortScopeName));
    if (handlers.connected().length === 0) for (const name of changed) names.gone(shortScopeName(name));
  };
  const table = createRouteTable(onChange, createResourceCheck(), options);
  const isAcked = ({ typeUrl, name, version }: ResourceRef): boolean =>
    isScope(typeUrl)
      ? handlers.isLive(typeUrl, shortScopeName(name), version === undefined ? undefined : versionOf(version, name))
      : handlers.isLive(typeUrl, name, version);
  return {
    table,
    addTo: (server) => handlers.addTo(server),
    isAcked,
    sweep: () => table.sweep(isAcked),
    get connected() {
      return handlers.connected().length > 0;
    },
    close: () => handlers.close(),
  };
}
