-- The naming filter of the HTTP port. The scope key there is the third segment of the path, so a V2 path needs no help
-- and never comes here when its model is warm. What comes here is brought into that form, and a route puts it back:
--   /v1/models/NAME:predict        ->  /v1/models/NAME/:predict
--   /v2/models/NAME?query          ->  /v2/models/NAME             (the key would hold the query)
--   /v2/repository/index           ->  /v2/repository/index?ready=true where the body says so
--   /v1/chat/completions and such  ->  /openai/models/NAME/v1/chat/completions, NAME from the JSON body
-- x-warm-model marks the last: a client cannot send it, so it cannot name one model in the path and another in the body.
-- Any doubt about the body (no JSON object, model named twice, with escapes, no text) leaves the path as it is: the
-- gateway then refuses. Where no route is found, x-warm-miss has the filters of a miss made. A revision with a slot is called NAME~SLOT, in the body too. json.lua stands before this.

local OPENAI = {
  ["/v1/chat/completions"] = true, ["/v1/completions"] = true, ["/v1/embeddings"] = true,
}

local INDEX = "/v2/repository/index"

local function name_from_body(handle, path)
  local body = handle:body()
  if body == nil then return end
  local text = body:getBytes(0, body:length())
  local name, first, last = find_model(text)
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
  local slot = handle:metadata():get("slot")
  if slot ~= nil and slot ~= "0" then rename_model(handle, body, text, first, last, name .. "~" .. slot) end
end

-- Whether only warm models are asked for says the body; the gateway reads no bodies.
local function ask_for_ready(handle)
  local body = handle:body()
  if body == nil or string.find(body:getBytes(0, body:length()), '"ready"%s*:%s*true') == nil then return end
  handle:headers():replace(":path", INDEX .. "?ready=true")
end

local function name_model(handle)
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
  if path == INDEX then return ask_for_ready(handle) end
  local call = string.match(string.gsub(path, "^/openai/v1/", "/v1/"), "^[^?]*")
  if OPENAI[call] and headers:get(":method") == "POST" then name_from_body(handle, call) end
end

function envoy_on_request(handle)
  name_model(handle)
  if handle:metadata():get("slot") == nil then handle:headers():replace("x-warm-miss", "1") end
end
