import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { type HeaderValueOption, HeaderValueOption_HeaderAppendAction } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import { ProcessingRequestSchema, ProcessingResponseSchema } from "#proto/gen/envoy/service/ext_proc/v3/external_processor_pb.ts";
import { decodeProcessing, encodeProcessing, type ProcessingAnswer } from "./codec.ts";

const latin1 = fc.string({ unit: fc.integer({ min: 32, max: 255 }).map((code) => String.fromCharCode(code)), maxLength: 300 });
const headerName = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);

test("reads what the generated types write", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(headerName, latin1), { maxLength: 30 }), fc.boolean(), (pairs, raw) => {
      const message = create(ProcessingRequestSchema, {
        request: {
          case: "requestHeaders",
          value: {
            endOfStream: true,
            headers: {
              headers: pairs.map(([key, value]) =>
                raw ? { key, rawValue: Buffer.from(value, "latin1") } : { key, value: ascii(value) },
              ),
            },
          },
        },
      });
      const event = decodeProcessing(Buffer.from(toBinary(ProcessingRequestSchema, message)));
      assert.equal(event.kind, "request-headers");
      if (event.kind !== "request-headers") return;
      const expected = new Map<string, string>();
      const repeated: string[] = [];
      for (const [key, value] of pairs) {
        if (expected.has(key)) repeated.push(key);
        else expected.set(key, raw ? value : ascii(value));
      }
      assert.deepEqual(event.headers, expected);
      assert.deepEqual(event.repeated, repeated);
    }),
  );
});

function ascii(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, "?");
}

test("a message without request headers is another one", () => {
  const message = create(ProcessingRequestSchema, { request: { case: "responseHeaders", value: {} } });
  assert.deepEqual(decodeProcessing(Buffer.from(toBinary(ProcessingRequestSchema, message))), { kind: "other" });
  assert.deepEqual(decodeProcessing(Buffer.alloc(0)), { kind: "other" });
});

test("arbitrary bytes are read or refused, never misread without end", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        decodeProcessing(Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof RangeError);
      }
    }),
  );
});

const pairs = fc.array(fc.tuple(headerName, latin1), { maxLength: 5 });
const answers: fc.Arbitrary<ProcessingAnswer> = fc.oneof(
  fc.record({ kind: fc.constant("continue" as const), setHeaders: pairs }),
  fc.record({
    kind: fc.constant("immediate" as const),
    httpStatus: fc.integer({ min: 200, max: 599 }),
    grpcStatus: fc.integer({ min: 0, max: 16 }),
    headers: pairs,
    body: fc.string({ maxLength: 2_000 }),
    details: fc.stringMatching(/^[a-z_]{0,30}$/),
  }),
);

test("the generated types read what it writes", () => {
  fc.assert(
    fc.property(answers, (answer) => {
      const { response } = fromBinary(ProcessingResponseSchema, encodeProcessing(answer));
      if (answer.kind === "continue") {
        assert.equal(response.case, "requestHeaders");
        if (response.case !== "requestHeaders") return;
        assert.equal(response.value.response?.clearRouteCache, true);
        assert.deepEqual(readHeaders(response.value.response?.headerMutation?.setHeaders ?? []), answer.setHeaders);
        return;
      }
      assert.equal(response.case, "immediateResponse");
      if (response.case !== "immediateResponse") return;
      assert.equal(response.value.status?.code, answer.httpStatus);
      assert.equal(response.value.grpcStatus?.status ?? 0, answer.grpcStatus);
      assert.deepEqual(readHeaders(response.value.headers?.setHeaders ?? []), answer.headers);
      assert.equal(Buffer.from(response.value.body).toString("utf8"), Buffer.from(answer.body, "utf8").toString("utf8"));
      assert.equal(response.value.details, answer.details);
    }),
  );
});

function readHeaders(options: readonly HeaderValueOption[]): [string, string][] {
  return options.map(({ header, appendAction }) => {
    assert.equal(appendAction, HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD);
    return [header?.key ?? "", Buffer.from(header?.rawValue ?? []).toString("latin1")];
  });
}
