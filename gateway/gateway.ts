// Owns how the gateway's parts are put together. Order of start: registry -> every present pod linked (or given time
// enough) -> the socket on which Envoy finds xDS, ext_proc and the log sink. So an Envoy that outlived its gateway is
// never given a table smaller than what the pods hold.
import { randomUUID } from "node:crypto";
import { Server } from "@grpc/grpc-js";
import { createHistogram } from "#core/samples.ts";
import { type Clock, sleep, systemClock } from "#platform/clock.ts";
import { addService, bindServer, closeServer } from "#platform/grpc.ts";
import type { Log } from "#platform/log.ts";
import { createTracer } from "#platform/telemetry.ts";
import { AccessLogService } from "#proto/gen/envoy/service/accesslog/v3/als_pb.ts";
import { AggregatedDiscoveryService } from "#proto/gen/envoy/service/discovery/v3/ads_pb.ts";
import { ExternalProcessor } from "#proto/gen/envoy/service/ext_proc/v3/external_processor_pb.ts";
import { createXds } from "#xds/main.ts";
import { createAdmin } from "./admin/server.ts";
import { createGatewayState } from "./admin/state.ts";
import { openBook } from "./book.ts";
import { openEnvoyStats } from "./envoystats.ts";
import { createProcessor, processCodecs } from "./extproc/service.ts";
import { createFleet } from "./fleet.ts";
import { createLinks } from "./links.ts";
import { createLoads } from "./loads.ts";
import type { GatewayOptions } from "./options.ts";
import { createReroutes } from "./reroutes.ts";
import { createRoutes } from "./routes.ts";
import { createMissSpans } from "./spans.ts";
import { createUsage } from "./usage.ts";
import { createWithdrawn } from "./withdraw.ts";
