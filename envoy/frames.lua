-- Adds a field to the end of gRPC messages that pass, request or answer. Of a field that stands twice readers take the last,
-- and they merge nested messages; so this renames what a message names, without holding back more than its beginning.

local function varint_of(value)
  local out = ""
  while value > 127 do
    out = out .. string.char(value % 128 + 128)
    value = math.floor(value / 128)
  end
  return out .. string.char(value)
end

-- Field `number`, below 16, that holds `text`.
local function field(number, text)
  return string.char(number * 8 + 2) .. varint_of(#text) .. text
end

-- `choose` is given the first `peek` bytes of each message, or all of it, and returns a whole field to add, or "". A
-- compressed message is left as it is, since nothing can be added to it.
local function add_to_messages(handle, peek, choose)
  -- How long it will be nobody knows yet.
  handle:headers():remove("content-length")
  local head, left, added = "", 0, ""
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    local text = length > 0 and chunk:getBytes(0, length) or ""
    local out, at = {}, 1
    while at <= length do
      if left == 0 then
        local size, wanted = 0, 5
        if #head >= 5 then
          local _, a, b, c, d = string.byte(head, 1, 5)
          size = ((a * 256 + b) * 256 + c) * 256 + d
          wanted = 5 + math.min(size, peek)
        end
        local part = string.sub(text, at, at + wanted - #head - 1)
        head, at = head .. part, at + #part
        if #head == 5 and wanted == 5 then
          local _, a, b, c, d = string.byte(head, 1, 5)
          size = ((a * 256 + b) * 256 + c) * 256 + d
          wanted = 5 + math.min(size, peek)
        end
        if #head == wanted then
          added = string.byte(head, 1) == 0 and choose(string.sub(head, 6)) or ""
          local n = size + #added
          local frame = string.char(math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
          out[#out + 1] = string.sub(head, 1, 1) .. frame .. string.sub(head, 6)
          left = size - (wanted - 5)
          head = ""
          if left == 0 then out[#out + 1] = added end
        end
      else
        local part = string.sub(text, at, at + left - 1)
        out[#out + 1] = part
        at, left = at + #part, left - #part
        if left == 0 then out[#out + 1] = added end
      end
    end
    if length > 0 then chunk:setBytes(table.concat(out)) end
  end
end
