-- Puts a V2 inference request over REST into the message of ModelInfer, in a frame. Data go where the predecessor's proxy put
-- them, into lists of numbers (`contents`); into raw bytes if one input has those, or is FP16: all inputs have the same form.
-- Keys that mean nothing here are passed over. bytes.lua and tensors.lua stand before this.

-- Each is a few tables; no request has nearly so many.
local MAX_PARTS = 1024
local MAX_RANK = 32

local function add(list, value, name)
  if #list == MAX_PARTS then bad("the request has more than " .. MAX_PARTS .. " " .. name) end
  list[#list + 1] = value
end

-- For reasons: what is not printed by everybody is left out.
local function quote(name) return '"' .. string.gsub(sub(name, 1, 100), "[^\32-\33\35-\126]", "?") .. '"' end

local function text_of(at, mark, name)
  if mark ~= QUOTE then not_a(at, name .. " must be a string") end
  return read_string(at)
end

-- What the form of the body says, and the message does not.
local OF_REST = { binary_data = true, binary_data_size = true, binary_data_output = true }

-- The message InferParameter of the value at `at`: nil of a null, which is none.
local function parameter_at(at, mark)
  local to = buffer.new()
  if mark == 110 then return nil, word_end(at, "null") end
  if mark == 116 then return to:put("\8\1"), word_end(at, "true") end
  if mark == 102 then return to:put("\8\0"), word_end(at, "false") end
  if mark == QUOTE then
    local value
    value, at = read_string(at)
    add_field(to, 3, value)
    return to, at
  end
  if mark == OPEN_LIST or mark == OPEN_OBJECT then not_a(at, "a parameter must be a boolean, a number or a string") end
  local from = at
  at = number_end(at)
  start(to)
  if find(sub(text, from + 1, at), "^%-?%d+$") and at - from <= 20 then
    -- What is beyond int64_t and within uint64_t has a field of its own.
    local negative = p[from] == MINUS
    local value = read_big(from, "a number of 64 bits", negative)
    local _, high = halves(value)
    local own = not negative and high >= 2147483648
    put_byte(own and 40 or 16)
    put_varint64(value)
  else
    put_byte(33)
    ffi.cast(doubles, q + used)[0] = read_number(from)
    used = used + 8
  end
  finish()
  return to, at
end

-- Reads the object at `at` as entries of field `number`, and what it says of the form.
local function read_parameters(at, mark, number, owner)
  local entries, form, count = buffer.new(), {}, 0
  if mark == 110 then return entries, form, word_end(at, "null") end
  if mark ~= OPEN_OBJECT then not_a(at, "the parameters of " .. owner .. " must be an object") end
  local to = read_object(at, function(key, from, first)
    count = count + 1
    if count > MAX_PARTS then bad(owner .. " has more than " .. MAX_PARTS .. " parameters") end
    what = "a parameter of " .. owner
    local value, behind = parameter_at(from, first)
    if OF_REST[key] or key == "content_type" then
      form[key] = first == QUOTE and read_string(from) or sub(text, from + 1, behind)
    end
    if value ~= nil and not OF_REST[key] then
      local entry = buffer.new()
      add_field(entry, 1, key)
      add_field(entry, 2, value)
      add_field(entries, number, entry)
    end
    return behind
  end)
  return entries, form, to
end

local function read_shape(at, mark)
  if mark ~= OPEN_LIST then not_a(at, "the shape of an input must be a list of whole numbers") end
  local shape = {}
  local to = read_list(at, function(from)
    local dimension, behind = read_whole(from)
    if dimension == nil or dimension < 0 or dimension >= 2 ^ 53 then bad("the shape of an input must be a list of whole numbers") end
    if #shape == MAX_RANK then bad("the shape of an input has more than " .. MAX_RANK .. " dimensions") end
    shape[#shape + 1] = dimension
    return behind
  end)
  return shape, to
end

local function read_input(at, mark)
  if mark ~= OPEN_OBJECT then not_a(at, "each input must be an object") end
  local input = { form = {} }
  local to = read_object(at, function(key, from, first)
    if key == "name" or key == "datatype" then input[key], from = text_of(from, first, "the " .. key .. " of an input")
    elseif key == "shape" then input.shape, from = read_shape(from, first)
    elseif key == "parameters" then
      input.parameters, input.form, from = read_parameters(from, first, 4, "an input")
    elseif key == "data" and first == OPEN_LIST then input.data, from = from, list_end(from)
    elseif key == "data" then not_a(from, "the data of an input must be a list")
    else from = value_end(from) end
    return from
  end)
  if input.name == nil then bad("each input must have a name") end
  what = "input " .. quote(input.name)
  if input.datatype == nil then bad(what .. " must have a datatype") end
  if READERS[input.datatype] == nil then bad(what .. " has a datatype that is none: " .. quote(input.datatype)) end
  if input.shape == nil then bad(what .. " must have a shape") end
  local size = input.form.binary_data_size
  if (input.data == nil) == (size == nil) then bad(what .. " must have either data or binary_data_size") end
  if size ~= nil and not find(size, "^%d+$") then bad("the binary_data_size of " .. what .. " must be a number of bytes") end
  return input, to
end

local function read_output(at, mark)
  if mark ~= OPEN_OBJECT then not_a(at, "each output asked for must be an object with a name") end
  local output = { form = {} }
  local to = read_object(at, function(key, from, first)
    if key == "name" then output.name, from = text_of(from, first, "the name of an output")
    elseif key == "parameters" then output.parameters, output.form, from = read_parameters(from, first, 2, "an output")
    else from = value_end(from) end
    return from
  end)
  if output.name == nil then bad("each output asked for must be an object with a name") end
  return output, to
end

-- The elements of the list at `at`, up to its end, none of which is a list.
local function read_run(at, element)
  local mark, count = nil, 0
  mark, at = behind_blanks(at + 1)
  if mark == CLOSE_LIST then return 0, at + 1 end
  while true do
    if used + LONGEST > size then room() end
    mark, at = behind_blanks(element(at))
    count = count + 1
    if mark == CLOSE_LIST then return count, at + 1 end
    if mark ~= COMMA then no_json() end
    mark, at = behind_blanks(at + 1)
  end
end

local function ragged(shape)
  bad("the nested data of " .. what .. " does not have its shape [" .. table.concat(shape, ", ") .. "]")
end

-- The list at `at`, nested as the shape is from `level` on.
local function read_nested(at, element, shape, level)
  if level == #shape then
    local count
    count, at = read_run(at, element)
    if count ~= shape[level] then ragged(shape) end
    return at
  end
  local count, mark = 0, nil
  mark, at = behind_blanks(at + 1)
  while mark ~= CLOSE_LIST or count > 0 do
    if mark ~= OPEN_LIST then ragged(shape) end
    count = count + 1
    mark, at = behind_blanks(read_nested(at, element, shape, level + 1))
    if mark == CLOSE_LIST then break end
    if mark ~= COMMA then no_json() end
    mark, at = behind_blanks(at + 1)
  end
  if count ~= shape[level] then ragged(shape) end
  return at + 1
end

local function product(shape)
  local count = 1
  for _, dimension in ipairs(shape) do
    -- Of others the product may be infinite, which times zero is no number.
    if dimension == 0 then return 0 end
    count = count * dimension
  end
  return count
end

-- Writes the input's elements to `to`; `form`: contents or raw.
local function write_data(input, form, to)
  what, is_base64 = "input " .. quote(input.name), input.form.content_type == "base64"
  local element = READERS[input.datatype][form]
  local shape = input.shape
  start(to)
  if behind_blanks(input.data + 1) == OPEN_LIST then
    if #shape < 2 then ragged(shape) end
    read_nested(input.data, element, shape, 1)
  else
    local count, expected = read_run(input.data, element), product(shape)
    if count ~= expected then
      bad(what .. " has " .. count .. " elements, but its shape [" .. table.concat(shape, ", ") .. "] makes " .. string.format("%.0f", expected))
    end
  end
  finish()
end

-- Bytes as they came; their number is what can be said of them.
local function check_raw(input, size)
  local of_one = SIZES[input.datatype]
  if of_one ~= nil and size ~= of_one * product(input.shape) then
    bad("input " .. quote(input.name) .. " has " .. size .. " bytes, which its shape and datatype do not make")
  end
end

local tensor_buffer, dimensions_buffer = keep(), keep()

-- Adds one input to the message; its elements are in `contents`, unless they come as raw bytes.
local function add_input(message, input, contents)
  local head, dimensions = tensor_buffer:reset(), dimensions_buffer:reset()
  add_field(head, 1, input.name)
  add_field(head, 2, input.datatype)
  for _, dimension in ipairs(input.shape) do add_varint(dimensions, dimension) end
  if #dimensions > 0 then add_field(head, 3, dimensions) end
  if input.parameters ~= nil then head:put(input.parameters) end
  add_varint(message, 42)
  if contents == nil then
    add_varint(message, #head)
    message:putcdata(head:ref())
    return
  end
  -- Texts are fields by themselves, numbers are one field that has all of them.
  local packs = input.datatype ~= "BYTES" and #contents > 0
  local size = #contents + (packs and 1 + varint_size(#contents) or 0)
  add_varint(message, #head + 1 + varint_size(size) + size)
  message:putcdata(head:ref())
  add_varint(message, 42)
  add_varint(message, size)
  if packs then
    add_varint(message, FIELDS[input.datatype] * 8 + 2)
    add_varint(message, #contents)
  end
  message:putcdata(contents:ref())
end

-- The list at `at`, each of which `read` reads; `words`: for what is no list.
local function read_parts(at, mark, read, name, words)
  if mark ~= OPEN_LIST then not_a(at, words) end
  local parts = {}
  local to = read_list(at, function(from, first)
    local part, behind = read(from, first)
    add(parts, part, name)
    return behind
  end)
  return parts, to
end

-- Reads the request; what it says in which order does not matter.
local function parse_request()
  local request = { inputs = nil, outputs = {}, form = {}, parameters = nil, id = nil }
  local mark, at = behind_blanks(0)
  if mark ~= OPEN_OBJECT then not_a(at, "the body must be a JSON object") end
  at = read_object(at, function(key, from, first)
    if key == "id" then request.id, from = text_of(from, first, "the id")
    elseif key == "parameters" then
      request.parameters, request.form, from = read_parameters(from, first, 4, "the request")
    elseif key == "inputs" then
      request.inputs, from = read_parts(from, first, read_input, "inputs", "inputs must be a list of tensors")
    elseif key == "outputs" then
      request.outputs, from = read_parts(from, first, read_output, "outputs", "outputs must be a list")
    else from = value_end(from) end
    return from
  end)
  mark, at = behind_blanks(at)
  if at < #text then no_json() end
  if request.inputs == nil then bad("inputs must be a list of tensors") end
  return request
end

local message_buffer, raw_buffer, elements_buffer = keep(), keep(), keep()

-- The frame with the message for `body`, whose JSON takes `json` bytes; and what the answer is to look like: which outputs
-- come as bytes, by their names, and whether all others do.
local function request_message(body, json, name, version)
  open_text(json == #body and body or sub(body, 1, json))
  local request = parse_request()
  local message = message_buffer:reset():put("\0\0\0\0\0")
  add_field(message, 1, name)
  if version ~= nil then add_field(message, 2, version) end
  if request.id ~= nil then add_field(message, 3, request.id) end
  if request.parameters ~= nil then message:put(request.parameters) end
  local form = "contents"
  for _, input in ipairs(request.inputs) do
    if input.data == nil or input.datatype == "FP16" then form = "raw" end
  end
  local raw, at, elements = raw_buffer:reset(), json, elements_buffer
  for _, input in ipairs(request.inputs) do
    elements:reset()
    if input.data ~= nil then
      write_data(input, form, elements)
    else
      local length = tonumber(input.form.binary_data_size)
      check_raw(input, length)
      if at + length > #body then bad("the binary_data_size of input " .. quote(input.name) .. " is more than the body has") end
      elements:put(sub(body, at + 1, at + length))
      at = at + length
    end
    add_input(message, input, form == "contents" and elements or nil)
    if form == "raw" then add_field(raw, 7, elements) end
  end
  if at ~= #body then bad((#body - at) .. " bytes behind the JSON belong to no input") end
  local binary = { all = request.form.binary_data_output == "true" }
  for _, output in ipairs(request.outputs) do
    local wanted = buffer.new()
    add_field(wanted, 1, output.name)
    if output.parameters ~= nil then wanted:put(output.parameters) end
    add_field(message, 6, wanted)
    local said = output.form.binary_data
    if said ~= nil then binary[#binary + 1] = (said == "true" and "+" or "-") .. output.name end
  end
  message:putcdata(raw:ref())
  return framed(message), binary
end
