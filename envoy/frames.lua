-- Adds a field to the end of every gRPC message of an answer, without holding any of it back. Of a field that stands twice
-- readers take the last, and they merge nested messages; so this renames what a message names.
-- Not for requests: what a script writes into one of a stream's chunks Envoy announces as the length of the whole.

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

-- `added`: a whole field. A compressed message is left as it is, since nothing can be added to it.
local function add_to_messages(handle, added)
  handle:headers():remove("content-length")
  local head, left, plain = "", 0, false
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    local text = length > 0 and chunk:getBytes(0, length) or ""
    local out, at = {}, 1
    while at <= length do
      if left == 0 then
        local part = string.sub(text, at, at + 4 - #head)
        head, at = head .. part, at + #part
        if #head == 5 then
          local flag, a, b, c, d = string.byte(head, 1, 5)
          left, plain = ((a * 256 + b) * 256 + c) * 256 + d, flag == 0
          if plain then
            local n = left + #added
            head = string.char(0, math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
          end
          out[#out + 1] = head
          head = ""
          if left == 0 and plain then out[#out + 1] = added end
        end
      else
        local part = string.sub(text, at, at + left - 1)
        out[#out + 1] = part
        at, left = at + #part, left - #part
        if left == 0 and plain then out[#out + 1] = added end
      end
    end
    if length > 0 then chunk:setBytes(table.concat(out)) end
  end
end
