// The public entry of xds: a table that the gateway writes, and the server that Envoy reads it from.
import type { Server } from "@grpc/grpc-js";
import type { Log } from "#platform/log.ts";
import { createResourceCheck } from "./check.ts";
import { createXdsHandlers } from "./protocol/server.ts";
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
  const handlers = createXdsHandlers({
    view: {
      get: (typeUrl, name) => table.get(typeUrl, name),
      names: (typeUrl) => table.names(typeUrl),
      needs: (typeUrl, name) => table.needs(typeUrl, name),
    },
    log,
    onAcked: ({ typeUrl, resources, tookMs }) =>
      listener.onAcked(
        typeUrl,
        resources.map(({ name }) => name),
        tookMs,
      ),
    onNacked: ({ typeUrl, names, message, final }) => {
      if (final) listener.onRefused(typeUrl, names, message);
    },
    onInitial: ({ typeUrl, names }) => {
      if (typeUrl === typeUrls.scope) table.adopt(names, listener.mayKeep ?? (() => false));
    },
    onConnected: () => undefined,
    onDisconnected: () => undefined,
  });
  const table = createRouteTable((typeUrl, names) => handlers.notify(typeUrl, names), createResourceCheck(), options);
  const isAcked = ({ typeUrl, name, version }: ResourceRef): boolean => handlers.isLive(typeUrl, name, version);
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
