-- Reads JSON as it comes from anybody: by a pointer into the text, which ends with a NUL, so that a look at the byte behind the
-- last one is no look beyond it. Every loop is bounded by the text, every nesting by a limit. Offsets count from 0.
-- What cannot be is refused by refuse(), which the filter catches: nothing here returns half of a value.

local ffi, bit, buffer = require("ffi"), require("bit"), require("string.buffer")
ffi.cdef("double strtod(const uint8_t *, uint8_t **);")
local byte_pointer = ffi.typeof("const uint8_t *")
local find, sub = string.find, string.sub
local TAB, NEWLINE, RETURN, BLANK, QUOTE, COMMA, MINUS, DOT, ZERO, NINE, COLON, BACKSLASH = 9, 10, 13, 32, 34, 44, 45, 46, 48, 57, 58, 92
local OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = 91, 93, 123, 125

-- Of values that mean nothing here, and so are only passed over.
local MAX_DEPTH = 64

-- The text that is read, and a pointer to it.
local text, p = "", ffi.cast(byte_pointer, "")

local function refuse(status, words) error({ status = status, words = words }, 0) end
local function bad(words) refuse("400", words) end
local function no_json() bad("the body is not JSON") end

local function open_text(value) text, p = value, ffi.cast(byte_pointer, value) end

-- The first byte from `at` that is no blank, and where it is.
local function behind_blanks(at)
  local mark = p[at]
  while mark == BLANK or mark == NEWLINE or mark == RETURN or mark == TAB do
    at = at + 1
    mark = p[at]
  end
  return mark, at
end

-- The offset of the first byte from `at` to before `to` that is not well-formed UTF-8; nil when all are.
local function find_malformed(bytes, at, to)
  while at < to do
    local first = bytes[at]
    if first < 128 then at = at + 1
    else
      local more, least = 0, 128
      if first >= 0xc2 and first < 0xe0 then more = 1
      elseif first >= 0xe0 and first < 0xf0 then more = 2
      elseif first >= 0xf0 and first < 0xf5 then more = 3
      else return at end
      if at + more >= to then return at end
      local second = bytes[at + 1]
      local most = 191
      -- Overlong forms, surrogates, and what is beyond U+10FFFF.
      if first == 0xe0 then least = 0xa0
      elseif first == 0xed then most = 0x9f
      elseif first == 0xf0 then least = 0x90
      elseif first == 0xf4 then most = 0x8f end
      if second < least or second > most then return at end
      for i = at + 2, at + more do
        if bytes[i] < 128 or bytes[i] > 191 then return at end
      end
      at = at + more + 1
    end
  end
  return nil
end

local function utf8_of(code)
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xc0 + bit.rshift(code, 6), 0x80 + code % 64) end
  if code < 0x10000 then
    return string.char(0xe0 + bit.rshift(code, 12), 0x80 + bit.rshift(code, 6) % 64, 0x80 + code % 64)
  end
  return string.char(0xf0 + bit.rshift(code, 18), 0x80 + bit.rshift(code, 12) % 64, 0x80 + bit.rshift(code, 6) % 64, 0x80 + code % 64)
end

local ESCAPED = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function hex_at(at)
  local digits = sub(text, at + 1, at + 4)
  if not find(digits, "^%x%x%x%x$") then no_json() end
  return tonumber(digits, 16)
end

-- The text from `at` to before `to`, which holds escapes.
local function unescape(at, to)
  local out = buffer.new()
  while at < to do
    local slash = find(text, "\\", at + 1, true)
    if slash == nil or slash > to then slash = to + 1 end
    out:put(sub(text, at + 1, slash - 1))
    at = slash - 1
    if at < to then
      local kind = sub(text, at + 2, at + 2)
      if kind == "u" then
        local code = hex_at(at + 2)
        at = at + 6
        if code >= 0xdc00 and code < 0xe000 then bad("a text in the body is not well-formed Unicode") end
        if code >= 0xd800 and code < 0xdc00 then
          local low = sub(text, at + 1, at + 2) == "\\u" and hex_at(at + 2) or 0
          if low < 0xdc00 or low > 0xdfff then bad("a text in the body is not well-formed Unicode") end
          code, at = 0x10000 + (code - 0xd800) * 1024 + low - 0xdc00, at + 6
        end
        out:put(utf8_of(code))
      else
        local plain = ESCAPED[kind]
        if plain == nil then no_json() end
        out:put(plain)
        at = at + 2
      end
    end
  end
  return out:tostring()
end

-- Where the text whose opening quote is at `at` ends, at its closing quote; whether it holds escapes, and other than ASCII.
local function string_end(at)
  at = at + 1
  local mark, escapes, wide = p[at], false, false
  while mark ~= QUOTE do
    if mark < BLANK then no_json() end
    if mark == BACKSLASH then
      escapes = true
      at = at + 1
      if p[at] < BLANK then no_json() end
    elseif mark > 127 then wide = true end
    at = at + 1
    mark = p[at]
  end
  return at, escapes, wide
end

-- The text whose opening quote is at `at`, as UTF-8, and the offset behind it.
local function read_string(at)
  local to, escapes, wide = string_end(at)
  if wide and find_malformed(p, at + 1, to) then bad("the body is not UTF-8") end
  if escapes then return unescape(at + 1, to), to + 1 end
  return sub(text, at + 2, to), to + 1
end

local function digits_end(at)
  local from = at
  while p[at] >= ZERO and p[at] <= NINE do at = at + 1 end
  if at == from then no_json() end
  return at
end

-- The offset behind the number that begins at `at`.
local function number_end(at)
  if p[at] == MINUS then at = at + 1 end
  local first = at
  at = digits_end(at)
  if p[first] == ZERO and at > first + 1 then no_json() end
  if p[at] == DOT then at = digits_end(at + 1) end
  if p[at] == 101 or p[at] == 69 then
    at = at + 1
    if p[at] == 43 or p[at] == MINUS then at = at + 1 end
    at = digits_end(at)
  end
  return at
end

-- Of no number with more digits can anybody need them all; to read one takes time that grows faster than they do.
local MAX_NUMBER = 1100

-- The number at `at`, and the offset behind it.
local function read_number(at)
  local to = number_end(at)
  if to - at > MAX_NUMBER then bad("a number in the body has too many digits") end
  return ffi.C.strtod(p + at, nil), to
end

local function word_end(at, word)
  if sub(text, at + 1, at + #word) ~= word then no_json() end
  return at + #word
end

-- Calls member(key, at) for each member of the object at `at`; it returns the offset behind the value.
local function read_object(at, member)
  local mark
  mark, at = behind_blanks(at + 1)
  if mark == CLOSE_OBJECT then return at + 1 end
  while true do
    if mark ~= QUOTE then no_json() end
    local key
    key, at = read_string(at)
    mark, at = behind_blanks(at)
    if mark ~= COLON then no_json() end
    mark, at = behind_blanks(at + 1)
    mark, at = behind_blanks(member(key, at, mark))
    if mark == CLOSE_OBJECT then return at + 1 end
    if mark ~= COMMA then no_json() end
    mark, at = behind_blanks(at + 1)
  end
end

-- Calls element(at, mark) for each of the list at `at`; it returns the offset behind it.
local function read_list(at, element)
  local mark
  mark, at = behind_blanks(at + 1)
  if mark == CLOSE_LIST then return at + 1 end
  while true do
    mark, at = behind_blanks(element(at, mark))
    if mark == CLOSE_LIST then return at + 1 end
    if mark ~= COMMA then no_json() end
    mark, at = behind_blanks(at + 1)
  end
end

local function scalar_end(at, mark)
  if mark == QUOTE then
    local to, escapes, wide = string_end(at)
    if wide and find_malformed(p, at + 1, to) then bad("the body is not UTF-8") end
    if escapes then unescape(at + 1, to) end
    return to + 1
  end
  if mark == 116 then return word_end(at, "true") end
  if mark == 102 then return word_end(at, "false") end
  if mark == 110 then return word_end(at, "null") end
  return number_end(at)
end

-- The offset behind the key at `at` and its colon.
local function key_end(at, mark)
  if mark ~= QUOTE then no_json() end
  mark, at = behind_blanks(scalar_end(at, mark))
  if mark ~= COLON then no_json() end
  return at + 1
end

-- The offset behind the value at `at`, whatever it is.
local function value_end(at)
  local depth, closing, mark = 0, {}, nil
  while true do
    mark, at = behind_blanks(at)
    local opened = mark == OPEN_LIST or mark == OPEN_OBJECT
    if opened then
      if depth == MAX_DEPTH then bad("the body is nested too deeply") end
      depth = depth + 1
      -- The closing brackets are two behind the opening ones.
      closing[depth] = mark + 2
      mark, at = behind_blanks(at + 1)
      opened = mark ~= closing[depth]
      if opened and closing[depth] == CLOSE_OBJECT then at = key_end(at, mark) end
    else at = scalar_end(at, mark) end
    while not opened do
      if depth == 0 then return at end
      mark, at = behind_blanks(at)
      if mark == COMMA then
        opened, at = true, at + 1
        if closing[depth] == CLOSE_OBJECT then
          mark, at = behind_blanks(at)
          at = key_end(at, mark)
        end
      elseif mark == closing[depth] then depth, at = depth - 1, at + 1
      else no_json() end
    end
  end
end

-- The value at `at` is not what it has to be: it may be no value at all.
local function not_a(at, words)
  value_end(at)
  bad(words)
end

-- The offset behind the list at `at`, whose content somebody reads later and more closely.
local function list_end(at)
  local depth = 0
  repeat
    local mark = p[at]
    if mark == QUOTE then at = string_end(at)
    elseif mark == OPEN_LIST then depth = depth + 1
    elseif mark == CLOSE_LIST then depth = depth - 1
    elseif mark == OPEN_OBJECT then not_a(at, "the data of an input hold an object")
    -- Where the text ends there is a NUL.
    elseif mark == 0 then no_json() end
    at = at + 1
  until depth == 0
  return at
end
