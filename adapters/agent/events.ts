// Owns what goes into the holding (events) and what comes out of it (effects).
import type { LoadClass } from "#core/loadqueue.ts";
import type { Priority, Revision } from "#core/model.ts";
import type { FailureKind, ServerLimits } from "../drivers/driver.ts";
import type { CopyFailureKind, CopyName, CopyView } from "./copies.ts";

export type HoldingEvent =
  | { readonly kind: "gateway-attached"; readonly gatewayId: string }
  | { readonly kind: "gateway-detached"; readonly gatewayId: string }
  | {
      readonly kind: "load-asked";
      readonly gatewayId: string;
      readonly model: string;
      readonly revision: Revision;
      readonly serverName: string;
      readonly loadClass: LoadClass;
      readonly priority?: Priority;
      readonly pinned?: boolean;
      /** How often the model is asked for, as far as the gateway knows. */
      readonly requestsPerSecond?: number;
      /** Whose the model is, where tenants are held to warm bytes. */
      readonly tenant?: string | undefined;
      /** What copies of that tenant may take here, with this one; no limit when absent. */
      readonly tenantBytes?: number | undefined;
      readonly waitMs: number;
      /** How long ago the model was last used. */
      readonly idleMs: number;
      /** W3C trace context of a request that waits for it. */
      readonly traceparent?: string | undefined;
    }
  | { readonly kind: "load-cancelled"; readonly gatewayId: string; readonly key: string }
  | { readonly kind: "withdraw-acked"; readonly gatewayId: string; readonly sequence: number }
  | {
      readonly kind: "used";
      readonly uses: readonly { readonly key: string; readonly idleMs: number; readonly requests: number }[];
    }
  /** The artefact's bytes, asked for by a `probe`; and what the model server thinks that a copy will take, if it told. */
  | {
      readonly kind: "probed";
      readonly key: string;
      readonly artefactBytes: number;
      readonly predictedBytes?: number | undefined;
    }
  | { readonly kind: "probe-failed"; readonly key: string; readonly failure: FailureKind; readonly reason: string }
  /**
   * `measured`: by the model server; otherwise it is what was expected, and nothing is learned from it. `memoryBytes`: what the
   * whole model server takes with it, where that can be seen.
   */
  | {
      readonly kind: "loaded";
      readonly key: string;
      readonly sizeBytes: number;
      readonly measured: boolean;
      readonly memoryBytes?: number | undefined;
    }
  /** `suspects`: with `server-died`, or where it was killed for want of memory: how many loads were under way there. */
  | {
      readonly kind: "load-failed";
      readonly key: string;
      readonly failure: CopyFailureKind;
      readonly reason: string;
      readonly suspects?: number | undefined;
    }
  /** Of a load that fetches its artefact: nothing comes, or something comes again. */
  | { readonly kind: "pull-stalled"; readonly key: string; readonly stalled: boolean }
  /** The load has its artefact, and waits for `admit`. */
  | { readonly kind: "pulled"; readonly key: string }
  | { readonly kind: "unloaded"; readonly key: string }
  | { readonly kind: "unload-failed"; readonly key: string }
  /** The model server answers; these are all the copies it holds. */
  | { readonly kind: "server-up"; readonly held: readonly HeldCopy[]; readonly limits?: ServerLimits | undefined }
  /** `silent`: it stands still, and loads had better go elsewhere. */
  | { readonly kind: "server-lost"; readonly silent?: boolean }
  /** The model server holds these besides: loads that outlived whoever asked for them. */
  | { readonly kind: "copies-found"; readonly held: readonly HeldCopy[] }
  /** What the whole model server takes. */
  | { readonly kind: "memory-seen"; readonly bytes: number }
  /** The model server says that it does not hold this copy, which is `ready` here. */
  | { readonly kind: "copy-missing"; readonly key: string }
  /** Whose these models are. */
  | { readonly kind: "owned"; readonly owners: ReadonlyMap<string, string | undefined> }
  /** Copies of this tenant are to take no more than so much. */
  | { readonly kind: "trimmed"; readonly tenant: string; readonly bytes: number }
  /** A gateway wants this copy here no more. */
  | { readonly kind: "dropped"; readonly key: string }
  /** No load is taken on any more, and gateways are asked to find other places for what is held; what was not used for long leaves at once. */
  | { readonly kind: "drain-started"; readonly patienceMs: number }
  /** All that is left leaves. */
  | { readonly kind: "drain-ended" }
  /** No load is taken on any more. */
  | { readonly kind: "stopping" }
  | { readonly kind: "tick" };

export interface HeldCopy extends CopyName {
  readonly serverName: string;
  readonly sizeBytes: number;
}

export type RefusalWhy = "queue-full" | "no-room" | "over-quota" | "stopping" | "deadline";

export type HoldingEffect =
  /** Look up how many bytes the artefact has. */
  | { readonly kind: "probe"; readonly key: string; readonly serverName: string; readonly revision: Revision }
  | {
      readonly kind: "load";
      readonly key: string;
      readonly serverName: string;
      readonly revision: Revision;
      readonly reservedBytes: number;
      readonly loadClass: LoadClass;
      /** Since the first ask. */
      readonly queuedMs: number;
      readonly traceparent: string | undefined;
    }
  /** The model server may be asked for it now. */
  | { readonly kind: "admit"; readonly key: string }
  | { readonly kind: "unload"; readonly key: string; readonly serverName: string }
  /** To every gateway. Sequence numbers have no gap. `withdraw`: wants an ack of this sequence from each. */
  | {
      readonly kind: "publish";
      readonly sequence: number;
      readonly changes: readonly CopyView[];
      readonly withdraw: boolean;
      /** With `withdraw`, by key: the trace of the load that a copy makes room for, where there is one. */
      readonly causes?: ReadonlyMap<string, string>;
    }
  /** To one gateway, in answer to it; it owes acks of these withdrawals. */
  | {
      readonly kind: "tell";
      readonly gatewayId: string;
      readonly changes: readonly CopyView[];
      readonly withdrawals: readonly number[];
    }
  /** To every gateway: it is to find other places for these, the first ones first. */
  | { readonly kind: "draining"; readonly copies: readonly CopyView[]; readonly patienceMs: number }
  | {
      readonly kind: "refuse";
      readonly gatewayId: string;
      readonly model: string;
      readonly revision: string;
      readonly why: RefusalWhy;
      readonly reason: string;
    };
