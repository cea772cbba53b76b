-- The datatypes: how an element is read from JSON into the bytes of a message, in both forms that these have for it (a list of
-- numbers, or raw bytes), and how it is written from either as JSON. Integers of 64 bits are never doubles on the way. JSON has
-- no NaN and no infinity: they are the texts "NaN", "Infinity" and "-Infinity".
-- Each reads or writes one element, and returns the offset behind it. reader.lua and bytes.lua stand before this.

-- What is read, for whoever is told that it is wrong.
local what = ""

local function wrong(name) bad(what .. " is " .. name .. ", which one of its elements is not") end
local function out_of_range(name) bad("an element of " .. what .. " is outside the range of " .. name) end

-- A whole number that a double holds, at `at`; nil when it is none.
local function read_whole(at)
  local from, negative = at, p[at] == MINUS
  if negative then at = at + 1 end
  local first, value, mark = at, 0, p[at]
  while mark >= ZERO and mark <= NINE and at - first < 15 do
    value = value * 10 + mark - ZERO
    at = at + 1
    mark = p[at]
  end
  local rest = mark == DOT or mark == 101 or mark == 69 or (mark >= ZERO and mark <= NINE)
  if rest or at == first or (p[first] == ZERO and at > first + 1) then
    if mark == QUOTE or mark == OPEN_LIST or mark == OPEN_OBJECT or mark == 116 or mark == 102 or mark == 110 then return nil, from end
    value, at = read_number(from)
    if value ~= math.floor(value) then return nil, from end
    return value, at
  end
  return negative and -value or value, at
end

-- The bits of a whole number of 64 bits at `at`, negative ones as their complement.
local function read_big(at, name, signed)
  local negative = p[at] == MINUS
  local first = negative and at + 1 or at
  local to, value = first, 0ULL
  while p[to] >= ZERO and p[to] <= NINE and to - first < 19 do
    value = value * 10ULL + (p[to] - ZERO)
    to = to + 1
  end
  local mark = p[to]
  if to == first or mark == DOT or mark == 101 or mark == 69 or (p[first] == ZERO and to > first + 1) then
    local double
    double, to = read_whole(at)
    if double == nil then wrong(name) end
    if double > 2 ^ 53 or double < -2 ^ 53 then out_of_range(name) end
    negative, value = double < 0, to_uint64(math.abs(double))
  elseif mark >= ZERO and mark <= NINE then
    local digit = mark - ZERO
    local next = p[to + 1]
    if next >= ZERO and next <= NINE then
      number_end(at)
      out_of_range(name)
    end
    if next == DOT or next == 101 or next == 69 then out_of_range(name) end
    local front, back = tonumber(value / 1000000000ULL), tonumber(value % 1000000000ULL) * 10 + digit
    if signed or front > 1844674407 or (front == 1844674407 and back > 3709551615) then out_of_range(name) end
    value, to = value * 10ULL + digit, to + 1
  end
  local low, high = halves(value)
  if negative and (low > 0 or high > 0) then
    if not signed or high > 2147483648 or (high == 2147483648 and low > 0) then out_of_range(name) end
    return 0ULL - value, to
  end
  if signed and high >= 2147483648 then out_of_range(name) end
  return value, to
end

local powers = {}
for k = 0, 22 do powers[k] = tonumber("1e" .. k) end

-- The bits of the FP16 next to a double; of two the even one.
local function half_of(value)
  if value ~= value then return 0x7e00 end
  local sign = (value < 0 or 1 / value < 0) and 0x8000 or 0
  value = math.abs(value)
  if value >= 65520 then return sign + 0x7c00 end
  local unit = 2 ^ -24
  if value >= 2 ^ -14 then
    local _, exponent = math.frexp(value)
    unit = 2 ^ (exponent - 11)
  end
  local steps = value / unit
  local whole = math.floor(steps)
  if steps - whole > 0.5 or (steps - whole == 0.5 and whole % 2 == 1) then whole = whole + 1 end
  if unit == 2 ^ -24 and whole < 1024 then return sign + whole end
  local _, exponent = math.frexp(whole * unit)
  return sign + (exponent + 14) * 1024 + whole * unit / 2 ^ (exponent - 11) - 1024
end

-- Of one tensor: its texts are base64.
local is_base64 = false
local BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
-- By datatype: `contents` and `raw` read an element into these.
local READERS
-- A script has 200 local names at most.
do
  local function integer(name, least, most, bytes)
    local function read(at)
      local value, to = read_whole(at)
      if value == nil then wrong(name) end
      if value < least or value > most then out_of_range(name) end
      return value, to
    end
    return {
      contents = function(at)
        local value, to = read(at)
        if value >= 0 then put_varint(value) else put_varint64(to_uint64(value)) end
        return to
      end,
      raw = function(at)
        local value, to = read(at)
        put_low(to_uint64(value), bytes)
        return to
      end,
    }
  end

  local function big(name, signed)
    return {
      contents = function(at)
        local value, to = read_big(at, name, signed)
        put_varint64(value)
        return to
      end,
      raw = function(at)
        local value, to = read_big(at, name, signed)
        put_low(value, 8)
        return to
      end,
    }
  end

  -- The number at `at` where it is exact in two doubles: 15 digits, and a power of ten up to 22. Nil for any other.
  local function read_short(at)
    local negative = p[at] == MINUS
    if negative then at = at + 1 end
    local first, value, digits, mark = at, 0, 0, p[at]
    while mark >= ZERO and mark <= NINE and digits < 16 do
      value, digits, at = value * 10 + mark - ZERO, digits + 1, at + 1
      mark = p[at]
    end
    if digits == 0 or (digits > 1 and p[first] == ZERO) then return nil, at end
    local behind = 0
    if mark == DOT then
      at = at + 1
      mark = p[at]
      local from = at
      while mark >= ZERO and mark <= NINE and digits < 16 do
        value, digits, at = value * 10 + mark - ZERO, digits + 1, at + 1
        mark = p[at]
      end
      behind = at - from
      if behind == 0 then return nil, at end
    end
    if digits > 15 or mark == 101 or mark == 69 or (mark >= ZERO and mark <= NINE) then return nil, at end
    value = value / powers[behind]
    return negative and -value or value, at
  end

  -- 0 / 0 has a sign, which is another one on other machines.
  local nan = ffi.new("union { uint64_t bits; double value; }", { bits = 0x7ff8000000000000ULL }).value
  local NOT_FINITE = { NaN = nan, Infinity = math.huge, ["-Infinity"] = -math.huge }

  -- The number at `at`, the offset behind it, and whether it was meant to be finite.
  local function read_double(at, name)
    local value, to = read_short(at)
    if value ~= nil then return value, to, true end
    if p[at] == QUOTE then
      local word
      word, to = read_string(at)
      value = NOT_FINITE[word]
      if value == nil then wrong(name) end
      return value, to, false
    end
    if p[at] ~= MINUS and (p[at] < ZERO or p[at] > NINE) then
      value_end(at)
      wrong(name)
    end
    value, to = read_number(at)
    return value, to, true
  end

  local function read_fp64(at)
    local value, to, finite = read_double(at, "FP64")
    if finite and (value == math.huge or value == -math.huge) then out_of_range("FP64") end
    ffi.cast(doubles, q + used)[0] = value
    used = used + 8
    return to
  end

  local function read_fp32(at)
    local value, to, finite = read_double(at, "FP32")
    local place = ffi.cast(floats, q + used)
    place[0] = value
    -- Rounding decides: the largest FP32 as people print it, 3.4028235e38, is a little above the exact one.
    if finite and (place[0] == math.huge or place[0] == -math.huge) then out_of_range("FP32") end
    used = used + 4
    return to
  end

  local function read_fp16(at)
    local value, to, finite = read_double(at, "FP16")
    local half = half_of(value)
    if finite and half % 0x8000 == 0x7c00 then out_of_range("FP16") end
    q[used], q[used + 1] = half % 256, rshift(half, 8)
    used = used + 2
    return to
  end

  local function read_bool(at)
    local mark = p[at]
    local to = value_end(at)
    if mark ~= 116 and mark ~= 102 and ((mark ~= 49 and mark ~= ZERO) or to > at + 1) then wrong("BOOL") end
    put_byte((mark == 116 or mark == 49) and 1 or 0)
    return to
  end

  local sextets = ffi.new("uint8_t[256]")
  ffi.fill(sextets, 256, 255)
  for i = 1, 64 do sextets[BASE64:byte(i)] = i - 1 end

  -- With or without the padding, as decoders are.
  local function from_base64(value)
    local length = #value
    while length > 0 and #value - length < 2 and value:byte(length) == 61 do length = length - 1 end
    if length % 4 == 1 then return nil end
    local from, to = ffi.cast(byte_pointer, value), buffer.new(length)
    local place, at, sum = to:reserve(length + 4), 0, 0
    for i = 0, length - 1 do
      local sextet = sextets[from[i]]
      if sextet == 255 then return nil end
      sum = sum * 64 + sextet
      if i % 4 == 3 then
        place[at], place[at + 1], place[at + 2] = rshift(sum, 16), rshift(sum, 8) % 256, sum % 256
        at, sum = at + 3, 0
      end
    end
    if length % 4 == 2 then
      place[at], at = rshift(sum, 4), at + 1
    elseif length % 4 == 3 then
      place[at], place[at + 1], at = rshift(sum, 10), rshift(sum, 2) % 256, at + 2
    end
    to:commit(at)
    return to:tostring()
  end

  local function read_bytes(at)
    if p[at] ~= QUOTE then
      value_end(at)
      wrong("BYTES")
    end
    local value, to = read_string(at)
    if is_base64 then
      value = from_base64(value)
      if value == nil then bad("an element of " .. what .. " is not base64, which its content_type says") end
    end
    return value, to
  end

  local function put_text(value)
    finish()
    out:put(value)
    start(out)
  end

  local texts = {
    contents = function(at)
      local value, to = read_bytes(at)
      put_byte(66)
      put_varint(#value)
      put_text(value)
      return to
    end,
    raw = function(at)
      local value, to = read_bytes(at)
      put_low(to_uint64(#value), 4)
      put_text(value)
      return to
    end,
  }

  READERS = {
    BOOL = { contents = read_bool, raw = read_bool },
    INT8 = integer("INT8", -128, 127, 1),
    INT16 = integer("INT16", -32768, 32767, 2),
    INT32 = integer("INT32", -2147483648, 2147483647, 4),
    INT64 = big("INT64", true),
    UINT8 = integer("UINT8", 0, 255, 1),
    UINT16 = integer("UINT16", 0, 65535, 2),
    UINT32 = integer("UINT32", 0, 4294967295, 4),
    UINT64 = big("UINT64", false),
    FP16 = { raw = read_fp16 },
    FP32 = { contents = read_fp32, raw = read_fp32 },
    FP64 = { contents = read_fp64, raw = read_fp64 },
    BYTES = texts,
  }
end

local FIELDS = {
  BOOL = 1, INT8 = 2, INT16 = 2, INT32 = 2, INT64 = 3, UINT8 = 4, UINT16 = 4, UINT32 = 4, UINT64 = 5, FP32 = 6, FP64 = 7, BYTES = 8,
}
local SIZES = { BOOL = 1, INT8 = 1, INT16 = 2, INT32 = 4, INT64 = 8, UINT8 = 1, UINT16 = 2, UINT32 = 4, UINT64 = 8, FP16 = 2, FP32 = 4, FP64 = 8 }
