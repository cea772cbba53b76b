-- Makes a buffered body name a model as it is called on a model server: in JSON or in a gRPC message. message.lua and
-- json.lua stand before this.

local function name_in_body(handle, body, is_json, name)
  if is_json then
    local text = body:length() > 0 and body:getBytes(0, body:length()) or ""
    local found, first, last = find_model(text)
    if found ~= nil and found ~= name then rename_model(handle, body, text, first, last, name) end
    return
  end
  local from, text, size = find_name(body)
  if from == nil or (size > 0 and body:getBytes(text, size) == name) then return end
  rename(handle, body, from, text, size, name)
end
