// Owns the form of what Envoy itself answers: its own refusals, and those that the gateway decided. The first mapper that
// fits an answer gives it its form.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { errorCatalogue } from "#core/errors.ts";
import { ComparisonFilter_Op } from "#proto/gen/envoy/config/accesslog/v3/accesslog_pb.ts";
import { HeaderValueOption_HeaderAppendAction } from "#proto/gen/envoy/config/core/v3/base_pb.ts";
import type { HeaderMatcherSchema } from "#proto/gen/envoy/config/route/v3/route_components_pb.ts";
import type {
  LocalReplyConfigSchema,
  ResponseMapperSchema,
} from "#proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { grpcStatus, headers, leftToFirst } from "./names.ts";

type Mapper = MessageInitShape<typeof ResponseMapperSchema>;
type Answer = Pick<Extract<Mapper, { readonly $typeName?: never }>, "statusCode" | "headersToAdd" | "body">;
type LogFilter = NonNullable<Mapper["filter"]>;

function status(op: ComparisonFilter_Op, code: number): LogFilter & object {
  const value = { comparison: { op, value: { defaultValue: code, runtimeKey: `warm.status_${code}` } } };
  return { filterSpecifier: { case: "statusCodeFilter", value } };
}

function hasHeader(header: MessageInitShape<typeof HeaderMatcherSchema>): LogFilter & object {
  return { filterSpecifier: { case: "headerFilter", value: { header } } };
}

function all(...filters: (LogFilter & object)[]): LogFilter & object {
  return { filterSpecifier: { case: "andFilter", value: { filters } } };
}

/** What Envoy itself refuses without a word gets one; the headers tell it from what the gateway refuses. */
function wordFor(word: string, code: number, ...matchers: MessageInitShape<typeof HeaderMatcherSchema>[]): Mapper {
  return {
    filter: all(status(ComparisonFilter_Op.EQ, code), ...matchers.map(hasHeader)),
    body: { specifier: { case: "inlineString", value: word } },
    bodyFormatOverride: asJson,
  };
}

const asJson: Mapper["bodyFormatOverride"] = { format: { case: "jsonFormat", value: { error: "%LOCAL_REPLY_BODY%" } } };

/** As OpenAI's clients read errors. */
function openaiErrors(which: LogFilter & object, type: string, more: Partial<Answer> = {}): Mapper {
  return {
    ...more,
    filter: all(which, hasHeader(openaiPath)),
    bodyFormatOverride: {
      format: {
        case: "jsonFormat",
        value: { error: { message: "%LOCAL_REPLY_BODY%", type, param: null, code: "%RESPONSE_CODE%" } },
      },
    },
  };
}

/**
 * What a request gets that no gateway decided on, for none could be asked: Envoy's own answer to that has no words and
 * does not say when to try again. The filter for misses answers with a status that nothing else has, and here it becomes
 * what the catalogue says.
 */
export const unaskedStatus = 510;

const { http: unavailableStatus, grpc: unavailableGrpcStatus } = errorCatalogue.unavailable;

function setHeader(key: string, value: string): NonNullable<Mapper["headersToAdd"]>[number] {
  return { header: { key, value }, appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD };
}

const unasked = {
  filter: status(ComparisonFilter_Op.EQ, unaskedStatus),
  statusCode: unavailableStatus,
  headersToAdd: [setHeader("retry-after", "1")],
  body: { specifier: { case: "inlineString", value: "the gateway does not answer: it may be starting" } },
} satisfies Mapper;

/** A pod was lost under a request that was too large to be sent to another: of that Envoy says so, and not when to try again. */
const lost = {
  filter: all(status(ComparisonFilter_Op.EQ, unavailableStatus), {
    filterSpecifier: { case: "responseFlagFilter", value: { flags: ["LR", "UC", "UF", "UPE", "UR"] } },
  }),
  headersToAdd: [setHeader("retry-after", "1")],
} satisfies Mapper;

/** The same, where the rest of the body came just when it would have been sent: Envoy's own status for that is read as final. */
const outgrown = {
  filter: status(ComparisonFilter_Op.EQ, 507),
  statusCode: unavailableStatus,
  headersToAdd: [setHeader("retry-after", "1")],
  body: {
    specifier: { case: "inlineString", value: "the pod was lost, and the request is too large to be sent to another: try again" },
  },
} satisfies Mapper;

const outgrownGrpc = {
  ...outgrown,
  headersToAdd: [...outgrown.headersToAdd, setHeader(grpcStatus, `${unavailableGrpcStatus}`)],
} satisfies Mapper;

/** The HTTP status of a gRPC answer is 200, whatever stands here. */
const unaskedGrpc = {
  ...unasked,
  headersToAdd: [...unasked.headersToAdd, setHeader(grpcStatus, `${unavailableGrpcStatus}`)],
} satisfies Mapper;

/**
 * A tenant over its requests per second: the limit filter has no words of ours, and nothing else about its answer could be
 * told from others here. So it, too, has a status that nothing else has.
 */
export const limitedStatus = 508;

const limited = {
  filter: status(ComparisonFilter_Op.EQ, limitedStatus),
  statusCode: errorCatalogue["quota-exceeded"].http,
  headersToAdd: [setHeader("retry-after", "1")],
  body: { specifier: { case: "inlineString", value: "this tenant's quota of requests per second is used up" } },
} satisfies Mapper;

function pathLike(regex: string): MessageInitShape<typeof HeaderMatcherSchema> {
  const matchPattern = { case: "safeRegex" as const, value: { regex } };
  return { name: ":path", headerMatchSpecifier: { case: "stringMatch", value: { matchPattern } } };
}

const isGrpc = hasHeader({
  name: "content-type",
  headerMatchSpecifier: { case: "stringMatch", value: { matchPattern: { case: "prefix", value: "application/grpc" } } },
});

/** Not what this Envoy itself put into gRPC: its client speaks REST. */
const cameAsGrpc = all(
  isGrpc,
  hasHeader({ name: headers.restCall, headerMatchSpecifier: { case: "presentMatch", value: false } }),
);

/** As clients send it, and as the naming filter writes it. */
const openaiPath = pathLike("(/openai)?(/models/[^/]+)?/v1/(chat/completions|completions|embeddings)([?].*)?");

const lostOverRest: readonly Mapper[] = [outgrown, lost].flatMap((mapper) => [
  openaiErrors(mapper.filter, "server_error", mapper),
  { ...mapper, bodyFormatOverride: asJson },
]);

/** The HTTP port: `{"error": TEXT}`, and OpenAI's own form on its paths. */
export const httpErrors: MessageInitShape<typeof LocalReplyConfigSchema> = {
  mappers: [
    // Refused on this port, in its own form: nothing is changed.
    { ...unaskedGrpc, filter: all(cameAsGrpc, unasked.filter) },
    { filter: cameAsGrpc },
    wordFor("the path must not contain %00", 400, pathLike("[^?]*%00.*")),
    wordFor("the path must not contain a fragment (#)", 400, pathLike("[^#]*#.*")),
    wordFor("the path must begin with /", 404, pathLike("[*]")),
    wordFor("a connection cannot be upgraded to another protocol here", 403, {
      name: "upgrade",
      headerMatchSpecifier: { case: "presentMatch", value: true },
    }),
    wordFor(
      "the request must name its host",
      400,
      { name: ":method", headerMatchSpecifier: { case: "presentMatch", value: true } },
      { name: ":authority", headerMatchSpecifier: { case: "presentMatch", value: false } },
    ),
    openaiErrors(limited.filter, "rate_limit_error", limited),
    { ...limited, bodyFormatOverride: asJson },
    openaiErrors(status(ComparisonFilter_Op.EQ, unaskedStatus), "server_error", unasked),
    { ...unasked, bodyFormatOverride: asJson },
    ...lostOverRest,
    openaiErrors(status(ComparisonFilter_Op.GE, 500), "server_error"),
    openaiErrors(status(ComparisonFilter_Op.EQ, errorCatalogue["quota-exceeded"].http), "rate_limit_error"),
    openaiErrors(status(ComparisonFilter_Op.GE, 400), "invalid_request_error"),
    { filter: status(ComparisonFilter_Op.GE, 400), bodyFormatOverride: asJson },
  ],
};

/** The gRPC port: Envoy has no gRPC status of its own for a message over the limit, or the wrong one. */
export const grpcErrors: MessageInitShape<typeof LocalReplyConfigSchema> = {
  mappers: [
    {
      filter: status(ComparisonFilter_Op.EQ, 413),
      headersToAdd: [setHeader(grpcStatus, `${errorCatalogue["body-too-large"].grpc}`)],
    },
    { ...limited, headersToAdd: [...limited.headersToAdd, setHeader(grpcStatus, `${errorCatalogue["quota-exceeded"].grpc}`)] },
    unaskedGrpc,
    outgrownGrpc,
    lost,
  ],
};

const isHedge = hasHeader({
  name: headers.isHedge,
  headerMatchSpecifier: { case: "stringMatch", value: { matchPattern: { case: "exact", value: "true" } } },
});

const left = setHeader(headers.notHere, leftToFirst);

/**
 * On internal listeners, which requests of both ports enter: a hedge that no gateway could be asked for leaves the word to the
 * first try, which goes on. What is answered here is an answer like any other to the port, which gives it no form any more.
 */
export const innerErrors: MessageInitShape<typeof LocalReplyConfigSchema> = {
  mappers: [
    { ...unasked, filter: all(isHedge, isGrpc, unasked.filter), headersToAdd: [...unaskedGrpc.headersToAdd, left] },
    { ...unasked, filter: all(isHedge, unasked.filter), headersToAdd: [...unasked.headersToAdd, left] },
    { ...unaskedGrpc, filter: all(isGrpc, unasked.filter) },
    openaiErrors(unasked.filter, "server_error", unasked),
    { ...unasked, bodyFormatOverride: asJson },
    { ...outgrownGrpc, filter: all(isGrpc, outgrown.filter) },
    { ...lost, filter: all(isGrpc, lost.filter) },
    ...lostOverRest,
    // Nothing is changed: of a gRPC answer the text is the message.
    { filter: isGrpc },
    openaiErrors(status(ComparisonFilter_Op.GE, 500), "server_error"),
    openaiErrors(status(ComparisonFilter_Op.GE, 400), "invalid_request_error"),
    { filter: status(ComparisonFilter_Op.GE, 400), bodyFormatOverride: asJson },
  ],
};
