-- The slot filter of the reroute listener: makes the message or body name the revision on the pod that the gateway chose.
-- The gateway says so in x-warm-server-name, where a path or header cannot; of another service in mm-model-id, and in
-- x-warm-inject where in the message. message.lua, json.lua, body.lua, frames.lua and
-- agree.lua stand before this.

function envoy_on_request(handle)
  local headers = handle:headers()
  local inside = headers:get("x-warm-inject")
  if inside ~= nil then
    headers:remove("x-warm-inject")
    local named = headers:get("mm-model-id")
    local message = named ~= nil and handle:body() or nil
    if message ~= nil then inject(handle, message, inside, named) end
    return
  end
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

-- The copy went again while the request was on its way, each time: the model exists, and may be asked for again. What is left
-- to the first try is nobody's answer, and the mark on it says so to the route that it comes from.
function envoy_on_response(handle)
  local headers = handle:headers()
  local mark = headers:get("x-warm-not-here")
  if mark == nil or mark == "left" then return end
  headers:remove("x-warm-not-here")
  local reason = "the model was evicted again and again while the request was on its way"
  if headers:get("grpc-status") ~= nil then
    headers:replace("grpc-status", "14")
    headers:replace("grpc-message", reason)
    return
  end
  headers:replace(":status", "503")
  headers:replace("retry-after", "1")
  headers:replace("content-type", "application/json")
  headers:remove("content-length")
  handle:body(true):setBytes('{"error":"' .. reason .. '"}')
end
