import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import type { HTTPAccessLogEntrySchema } from "#proto/gen/envoy/data/accesslog/v3/accesslog_pb.ts";
import { StreamAccessLogsMessageSchema } from "#proto/gen/envoy/service/accesslog/v3/als_pb.ts";
import { decodeAccessLogs, type LogEntry } from "./accesslog.ts";

const text = fc.stringMatching(/^[ -~]{0,40}$/);
const headers = fc.dictionary(fc.stringMatching(/^[a-z-]{1,12}$/), text, { maxKeys: 3, noNullPrototype: true });
const entry = fc.record({
  path: text,
  requestHeaders: headers,
  responseHeaders: headers,
  status: fc.integer({ min: 0, max: 599 }),
  micros: fc.option(fc.integer({ min: 0, max: 10_000_000_000 }), { nil: undefined }),
  requestBytes: fc.nat(),
  upstream: fc.boolean(),
});

test("reads what the generated types write", () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 5 }), fc.boolean(), (entries, identified) => {
      const message = create(StreamAccessLogsMessageSchema, {
        ...(identified ? { identifier: { logName: "x", node: { id: "envoy", cluster: "c" } } } : {}),
        logEntries: {
          case: "httpLogs" as const,
          value: {
            logEntry: entries.map(
              ({
                path,
                requestHeaders,
                responseHeaders,
                status,
                micros,
                requestBytes,
                upstream,
              }): MessageInitShape<typeof HTTPAccessLogEntrySchema> => ({
                protocolVersion: 2,
                commonProperties: {
                  sampleRate: 0.5,
                  upstreamCluster: "set-1-rest",
                  routeName: "v2",
                  ...(micros === undefined
                    ? {}
                    : {
                        timeToLastDownstreamTxByte: { seconds: BigInt(Math.floor(micros / 1e6)), nanos: (micros % 1e6) * 1_000 },
                      }),
                  ...(upstream ? { upstreamRemoteAddress: { address: { case: "pipe" as const, value: { path: "/p" } } } } : {}),
                },
                request: {
                  requestMethod: 3,
                  scheme: "http",
                  path,
                  requestHeaders,
                  requestBodyBytes: BigInt(requestBytes),
                  userAgent: "u",
                },
                response: { responseCode: status, responseHeaders, responseCodeDetails: "via_upstream" },
              }),
            ),
          },
        },
      });
      const expected = entries.map(
        (each): LogEntry => ({
          path: each.path,
          requestHeaders: new Map(Object.entries(each.requestHeaders)),
          responseHeaders: new Map(Object.entries(each.responseHeaders)),
          status: each.status,
          tookMs: each.micros === undefined ? undefined : each.micros / 1_000,
          requestBytes: each.requestBytes,
          reachedPod: each.upstream,
        }),
      );
      const read = decodeAccessLogs(Buffer.from(toBinary(StreamAccessLogsMessageSchema, message)));
      assert.deepEqual(read.map(rounded), expected.map(rounded));
    }),
  );
});

function rounded(each: LogEntry): LogEntry {
  return { ...each, tookMs: each.tookMs === undefined ? undefined : Math.round(each.tookMs * 1_000) };
}

test("arbitrary bytes are read or refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      try {
        decodeAccessLogs(Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof RangeError);
      }
    }),
  );
});
