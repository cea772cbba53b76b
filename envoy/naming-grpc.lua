-- The naming filter of the gRPC port: finds the model's name and puts it into x-warm-model, the scope key there.
-- The name is in a header (mm-vmodel-id, mm-model-id) or in field 1 of the message (Open Inference Protocol). A header
-- wins, and the message is then made to agree with it; so it is when the revision has a slot (NAME~SLOT).
-- Any doubt about the message (compressed, cut off, named twice) leaves the name away: the gateway then refuses.

local SERVICE = "/inference.GRPCInferenceService/"
local NAMED = {
  ModelInfer = true, ModelReady = true, ModelMetadata = true, ModelConfig = true, ModelStatistics = true,
}
-- About the server, not a model: a scope of their own.
local SERVER = { ServerLive = true, ServerReady = true, ServerMetadata = true, RepositoryIndex = true }
local MAX_FIELDS = 4096

-- Reads a varint at offset `at`; returns its value and the offset behind it, or nil.
local function varint(body, at, length)
  local bytes = body:getBytes(at, math.min(10, length - at))
  local value, factor = 0, 1
  for i = 1, #bytes do
    local byte = string.byte(bytes, i)
    value = value + (byte % 128) * factor
    if byte < 128 then return value, at + i end
    factor = factor * 128
  end
  return nil
end

-- Finds field 1 of the one message in the body. Returns the offset of its key, of its text, and the text's length;
-- zero for all when it is absent; nil when the message cannot be trusted.
local function find_name(body)
  local length = body:length()
  if length < 5 then return nil end
  local prefix = body:getBytes(0, 5)
  local flag, a, b, c, d = string.byte(prefix, 1, 5)
  if flag ~= 0 or ((a * 256 + b) * 256 + c) * 256 + d ~= length - 5 then return nil end
  local at, from, text, size = 5, 0, 0, 0
  for _ = 1, MAX_FIELDS do
    if at >= length then return from, text, size end
    local start = at
    local key, value
    key, at = varint(body, at, length)
    if key == nil or at > length then return nil end
    local wire = key % 8
    if wire == 2 then
      value, at = varint(body, at, length)
      if value == nil or at + value > length then return nil end
      if key == 10 then
        if from ~= 0 then return nil end
        from, text, size = start, at, value
      end
      at = at + value
    elseif wire == 0 then
      value, at = varint(body, at, length)
      if value == nil then return nil end
    elseif wire == 1 then at = at + 8
    elseif wire == 5 then at = at + 4
    else return nil end
    if at > length then return nil end
  end
  return nil
end

local function encode_varint(value)
  local out = ""
  while value > 127 do
    out = out .. string.char(value % 128 + 128)
    value = math.floor(value / 128)
  end
  return out .. string.char(value)
end

-- Writes another name into the message in place of the one found.
local function rename(handle, body, from, text, size, name)
  local length = body:length()
  local head, rest
  if from == 0 then
    head, rest = "", body:getBytes(5, length - 5)
  else
    head = from > 5 and body:getBytes(5, from - 5) or ""
    local behind = text + size
    rest = behind < length and body:getBytes(behind, length - behind) or ""
  end
  local message = "\10" .. encode_varint(#name) .. name .. head .. rest
  local n = #message
  local frame = string.char(0, math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
  local size_now = body:setBytes(frame .. message)
  if handle:headers():get("content-length") ~= nil then
    handle:headers():replace("content-length", tostring(size_now))
  end
end

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

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  local method = string.sub(path, 1, #SERVICE) == SERVICE and string.sub(path, #SERVICE + 1) or ""
  if SERVER[method] then
    headers:replace("x-warm-model", "/server")
    handle:clearRouteCache()
    return
  end
  local name = headers:get("mm-vmodel-id") or headers:get("mm-model-id")
  local in_message = NAMED[method]
  local body, from, text, size
  if in_message then
    body = handle:body()
    -- The wait for the body ends the life of the first headers object.
    headers = handle:headers()
    if body == nil then return end
    from, text, size = find_name(body)
    if from == nil then return end
    local found = size > 0 and body:getBytes(text, math.min(size, 300)) or nil
    if name == nil then
      name = found
    elseif name ~= found and valid(name) then
      rename(handle, body, from, text, size, name)
      from, text, size = find_name(body)
    end
  end
  if not valid(name) then
    if name ~= nil then headers:replace("x-warm-bad-name", escape(name)) end
    return
  end
  headers:replace("x-warm-model", name)
  handle:clearRouteCache()
  if body ~= nil then
    local slot = handle:metadata():get("slot")
    if slot ~= nil then rename(handle, body, from, text, size, name .. "~" .. slot) end
  end
end
