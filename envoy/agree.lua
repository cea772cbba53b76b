-- Makes every message of a stream of requests name the model that the stream was routed to, for model servers that take
-- the name from each message: otherwise a later message could name any model of the pod, whoever may call it. A message
-- that names it already passes as it is. frames.lua stands before this.

local MAX_STREAM_FIELDS = 4096
local MAX_STREAM_KEY = 2 ^ 32 - 1
-- So the model server's own refusal says why.
local STRAY = " (a stream stays with the model of its first message)"

local function varint_at(text, at, last)
  local value, factor = 0, 1
  for i = at, math.min(at + 9, last) do
    local byte = string.byte(text, i)
    value = value + (byte % 128) * factor
    if byte < 128 then return value, i + 1 end
    factor = factor * 128
  end
  return nil, at
end

-- The last field 1 from `at` to `last`, nil when there is none; and whether all fields up to the end were read.
local function last_name(text, at, last)
  local name = nil
  for _ = 1, MAX_STREAM_FIELDS do
    if at > last then return name, at == last + 1 end
    local key, size
    key, at = varint_at(text, at, last)
    if key == nil then return name, false end
    local wire = key % 8
    if key < 8 or key > MAX_STREAM_KEY or (wire ~= 2 and key < 16) then return name, false end
    if wire == 2 then
      size, at = varint_at(text, at, last)
      if size == nil or at + size - 1 > last then return name, false end
      if key == 10 then name = string.sub(text, at, at + size - 1) end
      at = at + size
    elseif wire == 0 then
      size, at = varint_at(text, at, last)
      if size == nil then return name, false end
    elseif wire == 1 then at = at + 8
    elseif wire == 5 then at = at + 4
    else return name, false end
  end
  return name, false
end

-- `public`: what clients call the model; `wanted`: what its model server does. `strict`: a message may name no other model;
-- otherwise what it names does not count.
local function agree(handle, public, wanted, strict)
  local right, stray = field(1, wanted), field(1, public .. STRAY)
  add_to_messages(handle, function(plain, text, from, last, whole)
    if not plain then return right end
    local name, all = last_name(text, from, last)
    if name == wanted and whole and all then return nil end
    local same = name == nil or name == "" or string.match(name, "^[^~]*") == public
    return (same or not strict) and right or stray
  end)
end
