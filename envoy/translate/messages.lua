-- Reads messages of Protobuf, and writes the elements of tensors in them as JSON. The message is read as texts are, by
-- the pointer `p` with offsets from 0. What is none is refused as the model server's fault. digits.lua stands before this.

local function malformed(words) refuse("502", "the answer of the model server " .. words) end

-- A varint from `at` to before `to` as a double, and the offset behind it.
local function varint_at(at, to)
  local value, factor = 0, 1
  for i = at, math.min(at + 9, to - 1) do
    local mark = p[i]
    value = value + band(mark, 127) * factor
    if mark < 128 then return value, i + 1 end
    factor = factor * 128
  end
  malformed("is no message of Protobuf")
end

-- The same with all of its 64 bits.
local function varint64_at(at, to)
  if at < to and p[at] < 128 then return ffi.cast("uint64_t", p[at]), at + 1 end
  local value, shift = 0ULL, 0
  for i = at, math.min(at + 9, to - 1) do
    local mark = p[i]
    value = bor(value, bit.lshift(ffi.cast("uint64_t", band(mark, 127)), shift))
    if mark < 128 then return value, i + 1 end
    shift = shift + 7
  end
  malformed("is no message of Protobuf")
end

-- Calls field(number, wire, from, to) for each field of the message from `at` to before `last`.
local function read_message(at, last, field)
  while at < last do
    local key, from, to
    key, at = varint_at(at, last)
    local wire, number = key % 8, math.floor(key / 8)
    from = at
    if wire == 0 then
      local _
      _, to = varint_at(at, last)
    elseif wire == 1 then to = at + 8
    elseif wire == 5 then to = at + 4
    elseif wire == 2 then
      local length
      length, from = varint_at(at, last)
      to = from + length
    end
    if to == nil or to > last or number < 1 or number >= 2 ^ 29 then malformed("is no message of Protobuf") end
    field(number, wire, from, to)
    at = to
  end
end

local function text_between(from, to)
  if find_malformed(p, from, to) then malformed("holds a text that is not UTF-8") end
  return sub(text, from + 1, to)
end

local function load_bytes(at, count)
  ffi.copy(scratch.bytes, p + at, count)
  return scratch
end

-- Each writes the element of contents at `at`, before `to`, as JSON.
local function int_element(at, to)
  local value
  value, at = varint64_at(at, to)
  local number = tonumber(ffi.cast("int32_t", value))
  if number < 0 then put_byte(MINUS) end
  put_digits(math.abs(number), 1)
  return at
end
local function uint_element(at, to)
  local value
  value, at = varint64_at(at, to)
  put_digits(tonumber(ffi.cast("uint32_t", value)), 1)
  return at
end
local function bool_element(at, to)
  local value
  value, at = varint_at(at, to)
  put_word(value == 0 and "false" or "true")
  return at
end
local function int64_element(at, to)
  local value
  value, at = varint64_at(at, to)
  put_int64(value)
  return at
end
local function uint64_element(at, to)
  local value
  value, at = varint64_at(at, to)
  put_uint64(value)
  return at
end
local function cut_off(at, size, to)
  if at + size > to then malformed("has numbers that are cut off") end
end
-- LuaJIT keeps what is no number in the bits of a NaN: a NaN that somebody else made must never be read as a number, or it is
-- taken for a value of any other kind.
local function fp32_element(at, to)
  cut_off(at, 4, to)
  local bits = load_bytes(at, 4).low
  if band(bits, 0x7f800000) == 0x7f800000 then put_special(bits >= 2147483648, band(bits, 0x7fffff) == 0) else put_fp32(scratch.f) end
  return at + 4
end
local function fp64_element(at, to)
  cut_off(at, 8, to)
  local high = load_bytes(at, 8).high
  if band(high, 0x7ff00000) == 0x7ff00000 then
    put_special(high >= 2147483648, band(high, 0xfffff) == 0 and scratch.low == 0)
  else put_fp64(scratch.d) end
  return at + 8
end

-- A raw integer of `size` bytes.
local function raw_integer(size, signed)
  local half = 2 ^ (size * 8 - 1)
  return function(at, to)
    cut_off(at, size, to)
    local value = 0
    for i = at + size - 1, at, -1 do value = value * 256 + p[i] end
    if signed and value >= half then
      put_byte(MINUS)
      value = 2 * half - value
    end
    put_digits(value, 1)
    return at + size
  end
end

-- By datatype: of contents the element and its field's wire type; of raw bytes the element.
local WRITERS = {
  BOOL = { bool_element, 0, function(at)
    put_word(p[at] == 0 and "false" or "true")
    return at + 1
  end },
  INT8 = { int_element, 0, raw_integer(1, true) },
  INT16 = { int_element, 0, raw_integer(2, true) },
  INT32 = { int_element, 0, raw_integer(4, true) },
  UINT8 = { uint_element, 0, raw_integer(1, false) },
  UINT16 = { uint_element, 0, raw_integer(2, false) },
  UINT32 = { uint_element, 0, raw_integer(4, false) },
  INT64 = { int64_element, 0, function(at, to)
    cut_off(at, 8, to)
    put_int64(load_bytes(at, 8).u)
    return at + 8
  end },
  UINT64 = { uint64_element, 0, function(at, to)
    cut_off(at, 8, to)
    put_uint64(load_bytes(at, 8).u)
    return at + 8
  end },
  FP32 = { fp32_element, 5, fp32_element },
  FP64 = { fp64_element, 1, fp64_element },
  FP16 = { nil, nil, function(at, to)
    cut_off(at, 2, to)
    put_fp16(p[at] + p[at + 1] * 256)
    return at + 2
  end },
}

-- Writes the elements from `at` to before `to`, behind a comma unless they are the first.
local function put_run(at, to, element, first)
  while at < to do
    if used + LONGEST > size then room() end
    if first then first = false else put_byte(COMMA) end
    at = element(at, to)
  end
  return first
end

local function put_numbers(output, raw)
  local writer, first = WRITERS[output.datatype], true
  start(out)
  put_byte(OPEN_LIST)
  if raw ~= nil then put_run(raw.from, raw.to, writer[3], true)
  else
    local wanted = FIELDS[output.datatype]
    for _, contents in ipairs(output.contents) do
      read_message(contents.from, contents.to, function(number, wire, from, to)
        if number ~= wanted then return end
        if wire ~= 2 and wire ~= writer[2] then malformed("is no message of Protobuf") end
        first = put_run(from, to, writer[1], first)
      end)
    end
  end
  put_byte(CLOSE_LIST)
  finish()
end
