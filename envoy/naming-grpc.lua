-- The naming filter of the gRPC port: finds the model's name and puts it into x-warm-model, the scope key there.
-- The name is in a header (mm-vmodel-id or mm-model-id, or either with -bin, for any service) or in field 1 of the message
-- (Open Inference Protocol), of a stream of the first one. A header wins, and such a message is then made to agree with it;
-- so it is when the revision has a slot (NAME~SLOT). message.lua, frames.lua and agree.lua stand before this.
-- Where no route is found, x-warm-miss has the filters of a miss made.
-- Any doubt (both kinds of header, a message compressed, cut off, or named twice) leaves the name away: the gateway then
-- refuses.

local SERVICE = "/inference.GRPCInferenceService/"
local NAMED = {
  ModelInfer = true, ModelReady = true, ModelMetadata = true, ModelConfig = true, ModelStatistics = true,
}
local STREAM = "ModelStreamInfer"
-- About the server, not a model: a scope of their own.
local SERVER = { ServerLive = true, ServerReady = true, ServerMetadata = true, RepositoryIndex = true }
-- gRPC's health check, and of which services it may ask: the whole, and V2.
local HEALTH = "/grpc.health.v1.Health/Check"
local WELL = { [""] = true, ["inference.GRPCInferenceService"] = true }

local function valid(name)
  return name ~= nil and #name <= 253 and string.find(name, "^[%w_%-][%w%._%-]*$") ~= nil
end

-- So that the gateway can say what is wrong with a name that no header could carry as it is.
local function escape(name)
  local escaped = string.gsub(string.sub(name, 1, 300), "[^%w%._%-]", function(c)
    return string.format("%%%02X", string.byte(c))
  end)
  return escaped
end

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

-- Base64 with or without padding; a text that is none gives one that is no name.
local function decode_base64(text)
  local out, bits, count = {}, 0, 0
  for character in string.gmatch(string.gsub(text, "=+$", ""), ".") do
    local value = string.find(ALPHABET, character, 1, true)
    if value == nil or #out > 300 then return "?" end
    bits, count = (bits * 64 + value - 1) % 65536, count + 6
    if count >= 8 then
      count = count - 8
      out[#out + 1] = string.char(math.floor(bits / 2 ^ count) % 256)
    end
  end
  return table.concat(out)
end

local function from_header(headers, name, encoded)
  local binary = headers:get(encoded)
  if binary ~= nil then return decode_base64(binary) end
  return headers:get(name)
end

-- What the filter before this one read.
local function from_first_message(handle)
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.grpc_field_extraction")
  local names = found ~= nil and found["model_name"] or nil
  if names == nil or #names ~= 1 then return nil end
  return names[1]
end

-- Of the services that Envoy answers for; any other is refused here, as the protocol wants it.
local function is_health(handle)
  local body = handle:body()
  if body == nil then return false end
  local from, _, size, name = find_name(body, 300)
  if from == nil then return false end
  if WELL[size == 0 and "" or name] then return true end
  handle:respond({
    [":status"] = "200", ["content-type"] = "application/grpc",
    ["grpc-status"] = "5", ["grpc-message"] = "no such service: ask for the server's, or for inference.GRPCInferenceService",
  })
  return false
end

-- Whether a route was found, to a model or to what answers for the server.
local function find_route(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  local method = string.sub(path, 1, #SERVICE) == SERVICE and string.sub(path, #SERVICE + 1) or ""
  if SERVER[method] or (path == HEALTH and is_health(handle)) then
    headers = handle:headers()
    headers:replace("x-warm-model", "/server")
    -- Where callers prove who they are, everybody may ask this; what is listed is for the gateway to choose.
    local caller = headers:get("x-warm-principal")
    if caller ~= nil then
      headers:replace("x-warm-caller", caller)
      headers:replace("x-warm-principal", "~")
    end
    handle:clearRouteCache()
    return true
  end
  local vmodel = from_header(headers, "mm-vmodel-id", "mm-vmodel-id-bin")
  local model = from_header(headers, "mm-model-id", "mm-model-id-bin")
  if vmodel ~= nil and model ~= nil then return false end
  local name = vmodel or model
  local in_message = NAMED[method]
  local body, from, text, size
  if in_message then
    body = handle:body()
    -- The wait for the body ends the life of the first headers object.
    headers = handle:headers()
    if body == nil then return false end
    local found
    from, text, size, found = find_name(body, 300)
    if from == nil then return false end
    if name == nil then
      name = found
    elseif name ~= found and valid(name) then
      rename(handle, body, from, text, size, name)
      from, text, size = find_name(body)
    end
  end
  local from_message = method == STREAM and name == nil
  if from_message then name = from_first_message(handle) end
  if not valid(name) then
    if name ~= nil then headers:replace("x-warm-bad-name", escape(name)) end
    return false
  end
  headers:replace("x-warm-model", name)
  handle:clearRouteCache()
  local route = handle:metadata()
  local slot = route:get("slot")
  if slot == nil then return false end
  if slot == "0" then slot = nil end
  local server_name = slot ~= nil and name .. "~" .. slot or name
  if method == STREAM then
    -- Else the header that the route adds tells the model server which model all messages mean.
    if route:get("by_message") ~= nil then agree(handle, name, server_name, from_message) end
  elseif body == nil then
    local inside = route:get("inject")
    local message = inside ~= nil and handle:body() or nil
    if message ~= nil then inject(handle, message, inside, server_name) end
  elseif slot ~= nil then
    rename(handle, body, from, text, size, server_name)
  end
  return true
end

function envoy_on_request(handle)
  if not find_route(handle) then handle:headers():replace("x-warm-miss", "1") end
end
