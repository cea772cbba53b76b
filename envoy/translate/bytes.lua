-- Writes bytes: what is written one by one goes through a window of a buffer, what is written as a whole behind that.
-- One thing is written at a time, to the buffer that start() was given last.

local out, q, used, size = buffer.new(), nil, 0, 0
local WINDOW = 16384
-- The longest that is written without another look at what is left: a double's digits.
local LONGEST = 40
local doubles, floats = ffi.typeof("double *"), ffi.typeof("float *")
local band, bor, rshift = bit.band, bit.bor, bit.rshift

-- Buffers that are there for every call: what is made anew for each is what a call costs most. Each says what it is for.
local KEPT = {}
local function keep()
  KEPT[#KEPT + 1] = buffer.new()
  return KEPT[#KEPT]
end
-- Gives back what a large body has made them grow to.
local function free_kept()
  for _, kept in ipairs(KEPT) do kept:free() end
end

local function start(into)
  out = into
  q, size = out:reserve(WINDOW)
  used = 0
end

local function room()
  if used + LONGEST > size then
    out:commit(used)
    start(out)
  end
end

-- Ends what goes byte by byte; then `out` holds all of it.
local function finish()
  out:commit(used)
  used, size = 0, 0
end

local function put_byte(value)
  q[used] = value
  used = used + 1
end

-- A whole number from 0 to 2^53.
local function put_varint(value)
  while value >= 2147483648 do
    local low = value % 128
    q[used] = low + 128
    used = used + 1
    value = (value - low) / 128
  end
  while value > 127 do
    q[used] = bor(band(value, 127), 128)
    used = used + 1
    value = rshift(value, 7)
  end
  q[used] = value
  used = used + 1
end

-- Eight bytes, whatever they are. Numbers of 64 bits are compared by their halves: where LuaJIT compiles a comparison of the FFI's
-- own, the first boolean of a list was now and then told as the other one.
local scratch = ffi.new("union { uint8_t bytes[8]; double d; float f; uint64_t u; struct { uint32_t low; uint32_t high; }; }")
local function halves(value)
  scratch.u = value
  return scratch.low, scratch.high
end

-- Any number of 64 bits, as uint64_t.
local function put_varint64(value)
  local low, high = halves(value)
  while high > 0 do
    q[used] = bor(band(low, 127), 128)
    used = used + 1
    low = bor(rshift(low, 7), bit.lshift(high, 25)) % 4294967296
    high = rshift(high, 7)
  end
  put_varint(low)
end

-- `count` bytes of a number of 64 bits, the lowest first.
local function put_low(value, count)
  for _ = 1, count do
    q[used] = tonumber(band(value, 255ULL))
    used = used + 1
    value = rshift(value, 8)
  end
end

-- As a varint to the end of another buffer than the one that is written.
local function add_varint(to, value)
  while value > 127 do
    to:put(string.char(value % 128 + 128))
    value = math.floor(value / 128)
  end
  to:put(string.char(value))
end

-- How many bytes that takes.
local function varint_size(value)
  local size = 1
  while value > 127 do
    value = math.floor(value / 128)
    size = size + 1
  end
  return size
end

-- Field `number`, below 16, that holds the content of another buffer, or a text.
local function add_field(to, number, content)
  add_varint(to, number * 8 + 2)
  if type(content) == "string" then
    add_varint(to, #content)
    to:put(content)
    return
  end
  add_varint(to, #content)
  to:putcdata(content:ref())
end

-- The message in `buffered`, behind five bytes that are left for it, as one frame of gRPC.
local function framed(buffered)
  local head, length = buffered:ref(), #buffered - 5
  head[0], head[1], head[2], head[3], head[4] = 0, rshift(length, 24), rshift(length, 16) % 256, rshift(length, 8) % 256, length % 256
  return buffered:tostring()
end

local function to_uint64(value) return ffi.cast("uint64_t", ffi.cast("int64_t", value)) end
