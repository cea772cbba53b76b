-- Writes numbers as JSON, byte by byte: integers of 64 bits with every digit, floats with as few as say which one it is.
-- reader.lua and bytes.lua stand before this.

-- A whole number from 0 to 2^53, with at least `least` digits.
local function put_digits(value, least)
  local count, rest = 1, value
  while rest >= 10 do
    rest = math.floor(rest / 10)
    count = count + 1
  end
  if count < least then count = least end
  rest = value
  for at = used + count - 1, used, -1 do
    local next = math.floor(rest / 10)
    q[at] = ZERO + rest - next * 10
    rest = next
  end
  used = used + count
end

local function put_uint64(value)
  local low, high = halves(value)
  if high < 2097152 then return put_digits(high * 4294967296 + low, 1) end
  put_digits(tonumber(value / 1000000000000ULL), 1)
  put_digits(tonumber(value % 1000000000000ULL), 12)
end

-- The bits of an int64_t.
local function put_int64(bits)
  local _, high = halves(bits)
  if high < 2147483648 then return put_uint64(bits) end
  put_byte(MINUS)
  put_uint64(0ULL - bits)
end

local function put_word(word)
  for i = 1, #word do q[used + i - 1] = word:byte(i) end
  used = used + #word
end

local one_float = ffi.new("float[1]")
local function as_float(value)
  one_float[0] = value
  return one_float[0]
end
local function as_double(value) return value end

-- `value` with `digits` digits, where that is exact arithmetic: the number before the point and behind it, and how many digits
-- those are. Nil where the digits say another number.
local function shorten(value, digits, rounded)
  local whole = 1
  local behind = digits
  while whole <= value and behind > 0 do whole, behind = whole * 10, behind - 1 end
  local steps = math.floor(value * powers[behind] + 0.5)
  if rounded(steps / powers[behind]) ~= value then return nil end
  while behind > 0 and steps % 10 == 0 do steps, behind = steps / 10, behind - 1 end
  local front = math.floor(steps / powers[behind])
  return front, steps - front * powers[behind], behind
end

-- By C, as they are read: LuaJIT's own conversions take 20 microseconds for a number with an exponent of 300.
ffi.cdef("int snprintf(uint8_t *, size_t, const char *, ...);")
local LONGEST_DOUBLE = 32
local FORMATS = {}
for digits = 4, 17 do FORMATS[digits] = "%." .. digits .. "g" end

local function put_finite(value, few, many, rounded)
  if value < 0 or (value == 0 and 1 / value < 0) then
    put_byte(MINUS)
    value = -value
  end
  if value < 1e15 and value == math.floor(value) then return put_digits(value, 1) end
  local from = few
  if value >= 1e-3 and value < 1e7 then
    from = math.min(many, 16)
    for digits = few, math.min(many, 15) do
      local front, rest, behind = shorten(value, digits, rounded)
      if front ~= nil then
        put_digits(front, 1)
        if behind > 0 then
          put_byte(DOT)
          put_digits(rest, behind)
        end
        return
      end
    end
  end
  for digits = from, many do
    local length = ffi.C.snprintf(q + used, LONGEST_DOUBLE, FORMATS[digits], value)
    if digits == many or rounded(ffi.C.strtod(q + used, nil)) == value then
      used = used + length
      return
    end
  end
end

local function put_fp32(value) return put_finite(value, 7, 9, as_float) end
local function put_fp64(value) return put_finite(value, 15, 17, as_double) end

-- The double that an FP16 is which is finite.
local function double_of(half)
  local sign, exponent, mantissa = half >= 32768 and -1 or 1, rshift(half, 10) % 32, half % 1024
  if exponent == 0 then return sign * mantissa * 2 ^ -24 end
  return sign * (mantissa + 1024) * 2 ^ (exponent - 25)
end
local function as_half(value) return double_of(half_of(value)) end

local function put_special(negative, is_infinite)
  if not is_infinite then return put_word('"NaN"') end
  put_word(negative and '"-Infinity"' or '"Infinity"')
end

local function put_fp16(half)
  if rshift(half, 10) % 32 == 31 then return put_special(half >= 32768, half % 1024 == 0) end
  put_finite(double_of(half), 4, 5, as_half)
end

local SHORT = { [8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f", [13] = "\\r", [34] = '\\"', [92] = "\\\\" }
local function escape(char)
  local code = char:byte()
  return SHORT[code] or string.format("\\u%04x", code)
end

-- A text that is UTF-8, in quotes.
local function quoted(value)
  if find(value, '[%z\1-\31"\\]') then value = string.gsub(value, '[%z\1-\31"\\]', escape) end
  return '"' .. value .. '"'
end

local function to_base64(value)
  local from, length, to = ffi.cast(byte_pointer, value), #value, buffer.new()
  local place, at = to:reserve(math.floor((length + 2) / 3) * 4), 0
  for i = 0, length - 1, 3 do
    local a, b, c = from[i], i + 1 < length and from[i + 1] or 0, i + 2 < length and from[i + 2] or 0
    local sum = a * 65536 + b * 256 + c
    place[at] = BASE64:byte(rshift(sum, 18) + 1)
    place[at + 1] = BASE64:byte(rshift(sum, 12) % 64 + 1)
    place[at + 2] = i + 1 < length and BASE64:byte(rshift(sum, 6) % 64 + 1) or 61
    place[at + 3] = i + 2 < length and BASE64:byte(sum % 64 + 1) or 61
    at = at + 4
  end
  to:commit(at)
  return to:tostring()
end
