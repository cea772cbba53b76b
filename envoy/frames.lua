-- Adds fields to the ends of gRPC messages, of requests or answers, without holding any of it back. Of a field that stands
-- twice readers take the last, and they merge nested messages; so this renames what a message names.
-- A chunk of a request is written into only where it must be: Envoy then announces the chunk's length as that of the whole,
-- as long as the request's headers wait for a connection. gRPC's own servers take no notice; Node's close the connection.

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

local function head_of(n)
  return string.char(0, math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
end

-- choose(plain, text, from, last, whole): the field to add to a message, or nil. `text` holds it from `from` to `last`,
-- all of it if `whole`. A compressed one that is added to is passed on as if it were plain: nobody will understand it.
local function add_to_messages(handle, choose)
  local head, left, added = "", 0, nil
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    local text = length > 0 and chunk:getBytes(0, length) or ""
    local out, at, changed = {}, 1, #head > 0
    while at <= length do
      if left == 0 then
        local part = string.sub(text, at, at + 4 - #head)
        head, at = head .. part, at + #part
        if #head == 5 then
          local flag, a, b, c, d = string.byte(head, 1, 5)
          left = ((a * 256 + b) * 256 + c) * 256 + d
          local last = math.min(at + left - 1, length)
          added = choose(flag == 0, text, at, last, last - at + 1 == left)
          if added ~= nil then
            head, changed = head_of(left + #added), true
          end
          out[#out + 1] = head
          head = ""
          if left == 0 and added ~= nil then out[#out + 1] = added end
        end
      else
        local part = string.sub(text, at, at + left - 1)
        out[#out + 1] = part
        at, left = at + #part, left - #part
        if left == 0 and added ~= nil then
          out[#out + 1], changed = added, true
        end
      end
    end
    -- A head that is cut in two goes out with its rest.
    if changed or #head > 0 then chunk:setBytes(table.concat(out)) end
  end
end
