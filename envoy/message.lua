-- Reads and rewrites field 1, the model's name, in the one gRPC message that a buffered body is.

local MAX_FIELDS = 4096
local MAX_KEY = 2 ^ 32 - 1
-- Read at once: each look into the body is a call out of the script, and each byte taken is copied.
local WINDOW = 512
-- What the key of a field and its length take at most.
local HEAD = 20
local byte, min, sub = string.byte, math.min, string.sub

-- Reads a varint at index `at` of `text`; returns its value and the index behind it, or nil.
local function varint(text, at)
  local first = byte(text, at)
  if first == nil then return nil end
  if first < 128 then return first, at + 1 end
  local value, factor = first - 128, 128
  for i = at + 1, at + 9 do
    local next = byte(text, i)
    if next == nil then return nil end
    value = value + (next % 128) * factor
    if next < 128 then return value, i + 1 end
    factor = factor * 128
  end
  return nil
end

-- Finds field 1 of the one message in the body. Returns the offset of its key, of its text, and the text's length, zero for
-- all when it is absent, and at most `most` bytes of the text, if `most` is given; nil when the message cannot be trusted.
local function find_name(body, most)
  local length = body:length()
  if length < 5 then return nil end
  -- What is read now: the bytes of the body from offset `base` to before `limit`.
  local base, limit = 0, min(WINDOW, length)
  local window = body:getBytes(0, limit)
  local flag, a, b, c, d = byte(window, 1, 5)
  if flag ~= 0 or ((a * 256 + b) * 256 + c) * 256 + d ~= length - 5 then return nil end
  local at, from, text, size = 5, 0, 0, 0
  for _ = 1, MAX_FIELDS do
    if at >= length then
      if most == nil or size == 0 then return from, text, size end
      return from, text, size, body:getBytes(text, min(size, most))
    end
    if at + HEAD > limit and limit < length then
      base, limit = at, min(at + WINDOW, length)
      window = body:getBytes(base, limit - base)
    end
    local start = at
    local key, value
    key, at = varint(window, at - base + 1)
    if key == nil then return nil end
    local wire = key % 8
    -- Some readers take a field 1 of another wire type for the name all the same; some drop the upper bits of a long key.
    if key < 8 or key > MAX_KEY or (wire ~= 2 and key < 16) then return nil end
    if wire == 2 then
      value, at = varint(window, at)
      if value == nil then return nil end
      at = base + at - 1
      if at + value > length then return nil end
      if key == 10 then
        if from ~= 0 then return nil end
        from, text, size = start, at, value
      end
      at = at + value
    elseif wire == 0 then
      value, at = varint(window, at)
      if value == nil then return nil end
      at = base + at - 1
    elseif wire == 1 then at = base + at + 7
    elseif wire == 5 then at = base + at + 3
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

-- Names the model in a message of another service: at the end of it, where the last of a field that stands twice counts and
-- nested messages are merged. `path`: the numbers of the fields that lead there, such as "1.2".
local function inject(handle, body, path, name)
  local length = body:length()
  if length < 5 then return end
  local flag, a, b, c, d = string.byte(body:getBytes(0, 5), 1, 5)
  -- Of what is compressed or cut off nothing is known.
  if flag ~= 0 or ((a * 256 + b) * 256 + c) * 256 + d ~= length - 5 then return end
  local numbers = {}
  for number in string.gmatch(path, "%d+") do table.insert(numbers, 1, tonumber(number)) end
  local added = name
  for _, number in ipairs(numbers) do added = encode_varint(number * 8 + 2) .. encode_varint(#added) .. added end
  local message = (length > 5 and body:getBytes(5, length - 5) or "") .. added
  local n = #message
  local frame = string.char(0, math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
  local size_now = body:setBytes(frame .. message)
  if handle:headers():get("content-length") ~= nil then
    handle:headers():replace("content-length", tostring(size_now))
  end
end
