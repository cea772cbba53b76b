-- The naming filter of the HTTP port. The scope key there is the third segment of the path, so a V2 path needs no help
-- and never comes here when its model is warm. What comes here is brought into that form, and a route puts it back:
--   /v1/models/NAME:predict        ->  /v1/models/NAME/:predict
--   /v2/models/NAME?query          ->  /v2/models/NAME             (the key would hold the query)
--   /v1/chat/completions and such  ->  /openai/models/NAME/v1/chat/completions, NAME from the JSON body
-- x-warm-model marks the last: a client cannot send it, so it cannot name one model in the path and another in the body.
-- Any doubt about the body (no JSON object, model named twice, with escapes, no text) leaves the path as it is: the
-- gateway then refuses.

local OPENAI = {
  ["/v1/chat/completions"] = true, ["/v1/completions"] = true, ["/v1/embeddings"] = true,
}

-- The closing quote of the text whose opening quote is at `at`.
local function string_end(text, at)
  local from = at + 1
  while true do
    local found = string.find(text, '["\\]', from)
    if found == nil then return nil end
    if string.byte(text, found) == 34 then return found end
    from = found + 2
  end
end

-- The value of the member "model" of the JSON object that the body is.
local function find_model(text)
  local at = string.match(text, "^[ \t\r\n]*{()")
  if at == nil then return nil end
  local depth, model = 1, nil
  while depth > 0 do
    local found, _, mark = string.find(text, '(["{}%[%]])', at)
    if found == nil then return nil end
    at = found + 1
    if mark == "{" or mark == "[" then depth = depth + 1
    elseif mark == "}" or mark == "]" then depth = depth - 1
    else
      local last = string_end(text, found)
      if last == nil then return nil end
      at = last + 1
      local value = depth == 1 and string.match(text, "^[ \t\r\n]*:[ \t\r\n]*()", at)
      if value then
        local key = string.sub(text, found + 1, last - 1)
        if string.find(key, "\\", 1, true) then return nil end
        if key == "model" then
          if model ~= nil or string.sub(text, value, value) ~= '"' then return nil end
          local stop = string_end(text, value)
          if stop == nil then return nil end
          model = string.sub(text, value + 1, stop - 1)
          at = stop + 1
        end
      end
    end
  end
  return model
end

local function name_from_body(handle, path)
  local body = handle:body()
  if body == nil then return end
  local name = find_model(body:getBytes(0, body:length()))
  -- The wait for the body ends the life of the first headers object.
  local headers = handle:headers()
  if name == nil or #name > 300 then return end
  if #name > 253 or not string.find(name, "^[%w_%-][%w%._%-]*$") then
    headers:replace("x-warm-bad-name", (string.gsub(name, "[^%w%._%-]", function(c)
      return string.format("%%%02X", string.byte(c))
    end)))
    return
  end
  headers:replace("x-warm-model", name)
  headers:replace(":path", "/openai/models/" .. name .. path)
  handle:clearRouteCache()
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if path == nil then return end
  local name, rest = string.match(path, "^/v1/models/([%w%._%-]+):(.*)$")
  if name ~= nil then
    headers:replace(":path", "/v1/models/" .. name .. "/:" .. rest)
    handle:clearRouteCache()
    return
  end
  local bare = string.match(path, "^(/v[12]/models/[%w%._%-]+)%?")
  if bare ~= nil then
    headers:replace(":path", bare)
    handle:clearRouteCache()
    return
  end
  local call = string.match(string.gsub(path, "^/openai/v1/", "/v1/"), "^[^?]*")
  if OPENAI[call] and headers:get(":method") == "POST" then name_from_body(handle, call) end
end
