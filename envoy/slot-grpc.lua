-- The slot filter of the reroute listener: makes the message name the revision on the pod that the gateway chose. The
-- gateway says so in x-warm-server-name, for unary calls only. message.lua stands before this.

function envoy_on_request(handle)
  local headers = handle:headers()
  local name = headers:get("x-warm-server-name")
  if name == nil then return end
  headers:remove("x-warm-server-name")
  local body = handle:body()
  if body == nil then return end
  local from, text, size = find_name(body)
  if from == nil or (size > 0 and body:getBytes(text, size) == name) then return end
  rename(handle, body, from, text, size, name)
end
