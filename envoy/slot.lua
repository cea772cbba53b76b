-- The slot filter of the reroute listener: makes the message or body name the revision on the pod that the gateway chose.
-- The gateway says so in x-warm-server-name, where a path or header cannot. message.lua, json.lua, body.lua, frames.lua and
-- agree.lua stand before this.

function envoy_on_request(handle)
  local headers = handle:headers()
  local name = headers:get("x-warm-server-name")
  if name == nil then return end
  headers:remove("x-warm-server-name")
  local path = headers:get(":path") or ""
  if path == "/inference.GRPCInferenceService/ModelStreamInfer" then
    local named = headers:get("mm-model-id") or headers:get("mm-model-id-bin")
      or headers:get("mm-vmodel-id") or headers:get("mm-vmodel-id-bin")
    agree(handle, (string.match(name, "^[^~]*")), name, named == nil)
    return
  end
  local body = handle:body()
  if body == nil then return end
  name_in_body(handle, body, string.sub(path, 1, 4) == "/v1/", name)
end
