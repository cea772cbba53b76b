-- The filter of the mirror listener: gives a mirrored request the name that its model has in the mirror's slot, whatever
-- slot it was made for. message.lua, json.lua and body.lua stand before this.

local function renamed(text, suffix)
  return (string.match(text, "^[^~]*")) .. suffix
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local slot = headers:get("x-warm-slot") or "0"
  local suffix = slot == "0" and "" or "~" .. slot
  local path = headers:get(":path") or ""
  local front, name, rest = string.match(path, "^(/v[12]/models/)([^/:~]+)~?%d*(.*)$")
  if front ~= nil then
    headers:replace(":path", front .. name .. suffix .. rest)
    return
  end
  local header = headers:get("mm-model-id")
  if header ~= nil then headers:replace("mm-model-id", renamed(header, suffix)) end
  local named = headers:get("x-warm-model")
  local openai = string.sub(path, 1, 4) == "/v1/"
  if named == nil or not (openai or string.sub(path, 1, 32) == "/inference.GRPCInferenceService/") then return end
  local body = handle:body()
  if body ~= nil then name_in_body(handle, body, openai, named .. suffix) end
end
