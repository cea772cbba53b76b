// Owns what Envoy may take, so that floods cannot take the machine: connections in number, memory in bytes. The more connections
// there are, the sooner idle ones are closed, those first that were idle longest. What it may not take it refuses: first it lets
// go of free memory, then it ends those HTTP/2 streams that hold most, then takes no more requests, at last no more connections.
// What is under way and small goes on; so do bodies over HTTP/1.1, which Envoy does not account for: those that arrive at once come
// on top of the bound. (Its load shed points were tried: they end many requests, small ones as well, and the peak stays what it
// was, since a body is read sooner than a worker hears of the pressure.)
import type { MessageInitShape } from "@bufbuild/protobuf";
import { duration, packAny } from "#platform/any.ts";
import {
  type OverloadManagerSchema,
  ScaleTimersOverloadActionConfig_TimerType,
  ScaleTimersOverloadActionConfigSchema,
  type TriggerSchema,
} from "#proto/gen/envoy/config/overload/v3/overload_pb.ts";
import { DownstreamConnectionsConfigSchema } from "#proto/gen/envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections_pb.ts";
import { FixedHeapConfigSchema } from "#proto/gen/envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap_pb.ts";

export interface EnvoyLimits {
  /** Of clients, on both ports together; a further one is closed at once. */
  readonly maxConnections: number;
  readonly maxHeapBytes: number;
}

export const defaultLimits: EnvoyLimits = Object.freeze({ maxConnections: 10_000, maxHeapBytes: 1_536 * 2 ** 20 });

const connections = "envoy.resource_monitors.global_downstream_max_connections";
const heap = "envoy.resource_monitors.fixed_heap";
/**
 * So long a connection may be idle when three tenths of those that may be are there; with half as many, as long as ever. So who
 * says nothing keeps nobody out (docs/decisions/0081).
 */
const crowdedIdleMs = 400;
/** Streams that hold less are never ended: 2^20 bytes. */
const trackedPowerOfTwo = 20;

export function buildOverload({ maxConnections, maxHeapBytes }: EnvoyLimits): MessageInitShape<typeof OverloadManagerSchema> {
  return {
    // In a tenth of a second a flood brings more connections than may be closed at once without keeping others waiting.
    refreshInterval: duration(50),
    bufferFactoryConfig: { minimumAccountToTrackPowerOfTwo: trackedPowerOfTwo },
    resourceMonitors: [
      {
        name: heap,
        configType: { case: "typedConfig", value: packAny(FixedHeapConfigSchema, { maxHeapSizeBytes: BigInt(maxHeapBytes) }) },
      },
      {
        name: connections,
        configType: {
          case: "typedConfig",
          value: packAny(DownstreamConnectionsConfigSchema, { maxActiveDownstreamConnections: BigInt(maxConnections) }),
        },
      },
    ],
    actions: [
      {
        name: "envoy.overload_actions.reduce_timeouts",
        triggers: [between(0.15, 0.3, connections)],
        typedConfig: packAny(ScaleTimersOverloadActionConfigSchema, {
          timerScaleFactors: [
            {
              timer: ScaleTimersOverloadActionConfig_TimerType.HTTP_DOWNSTREAM_CONNECTION_IDLE,
              overloadAdjust: { case: "minTimeout", value: duration(crowdedIdleMs) },
            },
          ],
        }),
      },
      { name: "envoy.overload_actions.shrink_heap", triggers: [above(0.8)] },
      { name: "envoy.overload_actions.reset_high_memory_stream", triggers: [between(0.85, 0.95)] },
      { name: "envoy.overload_actions.stop_accepting_requests", triggers: [above(0.95)] },
      { name: "envoy.overload_actions.stop_accepting_connections", triggers: [above(0.98)] },
    ],
  };
}

function above(value: number): MessageInitShape<typeof TriggerSchema> {
  return { name: heap, triggerOneof: { case: "threshold", value: { value } } };
}

function between(scalingThreshold: number, saturationThreshold: number, name = heap): MessageInitShape<typeof TriggerSchema> {
  return { name, triggerOneof: { case: "scaled", value: { scalingThreshold, saturationThreshold } } };
}
