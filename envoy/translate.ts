// Owns the filters of clusters whose pods speak V2 over gRPC alone: they put calls over REST into gRPC on their way to a pod, and
// answers back. They belong to the cluster, so a hit, a request that has waited and one that is rerouted pass them alike, and
// hits of other clusters do not. See docs/decisions/0075-rest-put-into-grpc-by-envoy.md.
import { packAny } from "#platform/any.ts";
import { UpstreamCodecSchema } from "#proto/gen/envoy/extensions/filters/http/upstream_codec/v3/upstream_codec_pb.ts";
import { filter, type HttpFilter, lua, script } from "./filters.ts";
import { filters } from "./names.ts";

const parts = ["reader", "bytes", "tensors", "request", "digits", "messages", "answer", "filter"];

/**
 * The script is in each such cluster, for each thread: what only people read of it is left out, and it is compiled when the first
 * call comes there. Most are never called: a pod's own clusters are for what was rerouted.
 */
export function translateScript(): string {
  const source = script(...parts.map((part) => `translate/${part}.lua`))
    .replaceAll(/^ +/gm, "")
    .replaceAll(/^(?:--.*)?\n/gm, "");
  return `local SOURCE = [==[
${source}
return { request = translate_request, response = translate_response }
]==]
local translate
function envoy_on_request(handle)
  if translate == nil then
    translate = assert(loadstring(SOURCE, "=translate"))()
    SOURCE = nil
  end
  translate.request(handle)
end
function envoy_on_response(handle)
  if translate ~= nil then translate.response(handle) end
end
`;
}

let built: readonly HttpFilter[] | undefined;

export function translateFilters(): readonly HttpFilter[] {
  built ??= [
    lua(filters.translate, translateScript()),
    filter("envoy.filters.http.upstream_codec", packAny(UpstreamCodecSchema, {})),
  ];
  return built;
}
