-- Puts the messages that a model server answers with into V2's JSON: ModelInferResponse, from lists of numbers or raw bytes;
-- ModelMetadataResponse; ModelReadyResponse. Whatever bytes come: what is no such message is refused as the model server's
-- fault. digits.lua stands before this; the message is read as texts are, by the pointer `p` with offsets from 0.

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

local scratch = ffi.new("union { uint8_t bytes[8]; double d; float f; uint64_t u; struct { uint32_t low; uint32_t high; }; }")
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
  value, at = varint64_at(at, to)
  put_word(value == 0ULL and "false" or "true")
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

-- Calls visit(from, to) for each text of a tensor, as long as it returns nothing; returns what it returned.
local function each_text(output, raw, visit)
  local at, found = raw and raw.from, nil
  while raw ~= nil and at < raw.to do
    cut_off(at, 4, raw.to)
    local from = at + 4
    at = from + p[at] + p[at + 1] * 256 + p[at + 2] * 65536 + p[at + 3] * 16777216
    if at > raw.to then malformed("has texts that are cut off") end
    found = found or visit(from, at)
  end
  for _, contents in ipairs(raw == nil and output.contents or {}) do
    read_message(contents.from, contents.to, function(number, wire, from, to)
      if number ~= 8 then return end
      if wire ~= 2 then malformed("is no message of Protobuf") end
      found = found or visit(from, to)
    end)
  end
  return found
end

local function put_texts(output, raw, as_base64)
  local behind = ""
  out:put("[")
  each_text(output, raw, function(from, to)
    local value = sub(text, from + 1, to)
    out:put(behind, as_base64 and '"' .. to_base64(value) .. '"' or quoted(value))
    behind = ","
  end)
  out:put("]")
end

local function is_no_utf8(from, to) return find_malformed(p, from, to) ~= nil or nil end

-- For a few digits.
local small = buffer.new()

-- The value of an InferParameter as JSON; nil of one that has none.
local function parameter_between(at, last)
  local json
  read_message(at, last, function(number, wire, from, to)
    if number == 3 and wire == 2 then json = quoted(text_between(from, to))
    elseif (number == 1 or number == 2 or number == 5) and wire == 0 then
      start(small:reset())
      if number == 1 then bool_element(from, to) elseif number == 2 then int64_element(from, to) else uint64_element(from, to) end
      finish()
      json = small:tostring()
    elseif number == 4 and wire == 1 then
      start(small:reset())
      fp64_element(from, to)
      finish()
      json = small:tostring()
    end
  end)
  return json
end

-- Of what holds parameters: their JSON by their names, the last of a name counts; `order` has the names.
local function parameter_entry(into, at, last)
  local key, json = "", nil
  read_message(at, last, function(number, wire, from, to)
    if number == 1 and wire == 2 then key = text_between(from, to)
    elseif number == 2 and wire == 2 then json = parameter_between(from, to) end
  end)
  if json == nil then return end
  if into[key] == nil then
    if #into.order == MAX_PARTS then malformed("has too many parameters") end
    into.order[#into.order + 1] = key
  end
  into[key] = { json }
end

local function parameters_json(given)
  local members = {}
  for i, key in ipairs(given.order) do members[i] = quoted(key) .. ":" .. given[key][1] end
  return "{" .. table.concat(members, ",") .. "}"
end

-- A list of int64_t, of a shape, as JSON.
local function read_dimensions(into, wire, at, last)
  if wire ~= 2 and wire ~= 0 then malformed("is no message of Protobuf") end
  while at < last do
    if #into == MAX_RANK then malformed("has too many dimensions") end
    local value
    value, at = varint64_at(at, last)
    start(small:reset())
    put_int64(value)
    finish()
    into[#into + 1] = small:tostring()
  end
end

-- A tensor of an answer (`parameters`: the number of that field there), or of metadata.
local function read_tensor(at, last)
  local tensor = { name = "", datatype = "", shape = {}, parameters = { order = {} }, contents = {} }
  read_message(at, last, function(number, wire, from, to)
    if number == 3 then read_dimensions(tensor.shape, wire, from, to)
    elseif wire ~= 2 then return
    elseif number == 1 then tensor.name = text_between(from, to)
    elseif number == 2 then tensor.datatype = text_between(from, to)
    elseif number == 4 then parameter_entry(tensor.parameters, from, to)
    elseif number == 5 then tensor.contents[#tensor.contents + 1] = { from = from, to = to } end
  end)
  return tensor
end

local function tensor_head(tensor)
  return '{"name":' .. quoted(tensor.name) .. ',"datatype":' .. quoted(tensor.datatype) .. ',"shape":[' .. table.concat(tensor.shape, ",") .. "]"
end

-- Writes one output to `json`; its bytes to `behind`, where it is to come so.
local function put_output(output, raw, json, behind, is_binary)
  if output.datatype ~= "BYTES" and WRITERS[output.datatype] == nil then
    malformed("has output " .. quote(output.name) .. " of datatype " .. quote(output.datatype) .. ", which has no form in JSON")
  end
  local given = output.parameters
  if is_binary then
    if given.binary_data_size == nil then given.order[#given.order + 1] = "binary_data_size" end
    given.binary_data_size = { string.format("%d", raw.to - raw.from) }
    json:put(tensor_head(output), ',"parameters":', parameters_json(given), "}")
    behind:put(sub(text, raw.from + 1, raw.to))
    return
  end
  if output.datatype ~= "BYTES" and raw == nil and FIELDS[output.datatype] == nil and #output.contents > 0 then
    malformed("has output " .. quote(output.name) .. " of datatype " .. output.datatype .. " without raw bytes")
  end
  local as_base64 = given.content_type ~= nil and given.content_type[1] == '"base64"'
  if output.datatype == "BYTES" and not as_base64 and each_text(output, raw, is_no_utf8) then
    -- What is no text can only be told so, and who reads it has to know.
    as_base64 = true
    if given.content_type == nil then given.order[#given.order + 1] = "content_type" end
    given.content_type = { '"base64"' }
  end
  json:put(tensor_head(output))
  if #given.order > 0 then json:put(',"parameters":', parameters_json(given)) end
  json:put(',"data":')
  out = json
  if output.datatype == "BYTES" then put_texts(output, raw, as_base64) else put_numbers(output, raw) end
  json:put("}")
end

-- The JSON of a ModelInferResponse, for a client that calls the model `name`; and the bytes behind it, nil when there are none.
-- `binary`: which outputs are to come as bytes, "+NAME" or "-NAME", and whether all others do.
local function infer_json(last, name, binary)
  local version, id, parameters, outputs, raws = "", "", { order = {} }, {}, {}
  read_message(5, last, function(number, wire, from, to)
    if wire ~= 2 then return
    elseif number == 2 then version = text_between(from, to)
    elseif number == 3 then id = text_between(from, to)
    elseif number == 4 then parameter_entry(parameters, from, to)
    elseif number == 5 then
      if #outputs == MAX_PARTS then malformed("has too many outputs") end
      outputs[#outputs + 1] = read_tensor(from, to)
    elseif number == 6 then
      if #raws == MAX_PARTS then malformed("has too many outputs") end
      raws[#raws + 1] = { from = from, to = to }
    end
  end)
  if #raws > 0 and #raws ~= #outputs then malformed("has raw bytes for " .. #raws .. " of " .. #outputs .. " outputs") end
  local json, behind, is_binary, any = buffer.new(), buffer.new(), {}, false
  for _, said in ipairs(binary) do is_binary[sub(said, 2)] = sub(said, 1, 1) == "+" end
  json:put('{"model_name":', quoted(name), ',"model_version":', quoted(version))
  if id ~= "" then json:put(',"id":', quoted(id)) end
  if #parameters.order > 0 then json:put(',"parameters":', parameters_json(parameters)) end
  json:put(',"outputs":[')
  for i, output in ipairs(outputs) do
    if i > 1 then json:put(",") end
    local wanted = is_binary[output.name]
    if wanted == nil then wanted = binary.all end
    wanted = wanted and raws[i] ~= nil
    any = any or wanted
    put_output(output, raws[i], json, behind, wanted)
  end
  json:put("]}")
  return json:tostring(), any and behind:tostring() or nil
end

local function metadata_json(last, name)
  local platform, versions, tensors = "", {}, { [4] = {}, [5] = {} }
  read_message(5, last, function(number, wire, from, to)
    if wire ~= 2 then return
    elseif number == 3 then platform = text_between(from, to)
    elseif number == 2 or number == 4 or number == 5 then
      local list = tensors[number] or versions
      if #list == MAX_PARTS then malformed("has too many parts") end
      list[#list + 1] = number == 2 and quoted(text_between(from, to)) or tensor_head(read_tensor(from, to)) .. "}"
    end
  end)
  return '{"name":' .. quoted(name) .. ',"versions":[' .. table.concat(versions, ",") .. '],"platform":' .. quoted(platform)
    .. ',"inputs":[' .. table.concat(tensors[4], ",") .. '],"outputs":[' .. table.concat(tensors[5], ",") .. "]}"
end

local function is_ready(last)
  local ready = false
  read_message(5, last, function(number, wire, from, to)
    if number == 1 and wire == 0 then ready = varint64_at(from, to) ~= 0ULL end
  end)
  return ready
end
