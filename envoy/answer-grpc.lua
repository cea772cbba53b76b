-- Makes the answer of a model server say the public name of a model whose revision has a slot, where it is called
-- NAME~SLOT. The route says in a header which method it was and what the public name is. frames.lua stands before this.

local ANSWER = {
  ModelInfer = function(name) return field(1, name) end,
  ModelMetadata = function(name) return field(1, name) end,
  ModelConfig = function(name) return field(1, field(1, name)) end,
  ModelStreamInfer = function(name) return field(2, field(1, name)) end,
}

function envoy_on_response(handle)
  local headers = handle:headers()
  local marked = headers:get("x-warm-answer-name")
  if marked == nil then return end
  headers:remove("x-warm-answer-name")
  local method, name = string.match(marked, "^(%w+):([%w%._%-]+)$")
  if method == nil or ANSWER[method] == nil then return end
  headers:remove("content-length")
  local added = ANSWER[method](name)
  -- Nothing can be added to a compressed message.
  add_to_messages(handle, function(plain) return plain and added or nil end)
end
