-- Puts the messages that a model server answers with into V2's JSON: ModelInferResponse, from lists of numbers or raw bytes;
-- ModelMetadataResponse; ModelReadyResponse. Whatever bytes come: what is no such message is refused as the model server's
-- fault. messages.lua stands before this.

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
local small = keep()

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

-- What holds parameters: their JSON by their names, whatever those are, and the names in order.
local function no_parameters() return { order = {}, json = {} } end

-- The last of a name counts.
local function set_parameter(into, key, json)
  if into.json[key] == nil then
    if #into.order == MAX_PARTS then malformed("has too many parameters") end
    into.order[#into.order + 1] = key
  end
  into.json[key] = json
end

local function parameter_entry(into, at, last)
  local key, json = "", nil
  read_message(at, last, function(number, wire, from, to)
    if number == 1 and wire == 2 then key = text_between(from, to)
    elseif number == 2 and wire == 2 then json = parameter_between(from, to) end
  end)
  if json == nil then return end
  set_parameter(into, key, json)
end

local function parameters_json(given)
  local members = {}
  for i, key in ipairs(given.order) do members[i] = quoted(key) .. ":" .. given.json[key] end
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
  local tensor = { name = "", datatype = "", shape = {}, parameters = no_parameters(), contents = {} }
  read_message(at, last, function(number, wire, from, to)
    if number == 3 then read_dimensions(tensor.shape, wire, from, to)
    elseif wire ~= 2 then return
    elseif number == 1 then tensor.name = text_between(from, to)
    elseif number == 2 then tensor.datatype = text_between(from, to)
    elseif number == 4 then parameter_entry(tensor.parameters, from, to)
    elseif number == 5 then
      if #tensor.contents == MAX_PARTS then malformed("has too many parts") end
      tensor.contents[#tensor.contents + 1] = { from = from, to = to }
    end
  end)
  return tensor
end

-- Up to what differs: its data, or nothing.
local function put_head(json, tensor)
  json:put('{"name":', quoted(tensor.name), ',"datatype":', quoted(tensor.datatype), ',"shape":[', table.concat(tensor.shape, ","), "]")
end

-- Writes one output to `json`; its bytes to `behind`, where it is to come so.
local function put_output(output, raw, json, behind, is_binary)
  if output.datatype ~= "BYTES" and WRITERS[output.datatype] == nil then
    malformed("has output " .. quote(output.name) .. " of datatype " .. quote(output.datatype) .. ", which has no form in JSON")
  end
  local given = output.parameters
  if is_binary then
    set_parameter(given, "binary_data_size", string.format("%d", raw.to - raw.from))
    put_head(json, output)
    json:put(',"parameters":', parameters_json(given), "}")
    behind:put(sub(text, raw.from + 1, raw.to))
    return
  end
  if output.datatype ~= "BYTES" and raw == nil and FIELDS[output.datatype] == nil and #output.contents > 0 then
    malformed("has output " .. quote(output.name) .. " of datatype " .. output.datatype .. " without raw bytes")
  end
  local as_base64 = given.json.content_type == '"base64"'
  if output.datatype == "BYTES" and not as_base64 and each_text(output, raw, is_no_utf8) then
    -- What is no text can only be told so, and who reads it has to know.
    as_base64 = true
    set_parameter(given, "content_type", '"base64"')
  end
  put_head(json, output)
  if #given.order > 0 then json:put(',"parameters":', parameters_json(given)) end
  json:put(',"data":')
  out = json
  if output.datatype == "BYTES" then put_texts(output, raw, as_base64) else put_numbers(output, raw) end
  json:put("}")
end

local json_buffer, behind_buffer = keep(), keep()

-- The JSON of a ModelInferResponse, for a client that calls the model `name`; and the bytes behind it, nil when there are none.
-- `binary`: which outputs are to come as bytes, "+NAME" or "-NAME", and whether all others do.
local function infer_json(last, name, binary)
  local version, id, parameters, outputs, raws = "", "", no_parameters(), {}, {}
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
  local json, behind, is_binary, any = json_buffer:reset(), behind_buffer:reset(), {}, false
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
      list[#list + 1] = number == 2 and quoted(text_between(from, to)) or read_tensor(from, to)
    end
  end)
  local json = json_buffer:reset()
  json:put('{"name":', quoted(name), ',"versions":[', table.concat(versions, ","), '],"platform":', quoted(platform))
  for at, key in ipairs({ "inputs", "outputs" }) do
    json:put(',"', key, '":[')
    for i, tensor in ipairs(tensors[at + 3]) do
      if i > 1 then json:put(",") end
      put_head(json, tensor)
      json:put("}")
    end
    json:put("]")
  end
  return json:put("}"):tostring()
end

local function is_ready(last)
  local ready = false
  read_message(5, last, function(number, wire, from, to)
    if number == 1 and wire == 0 then ready = varint_at(from, to) ~= 0 end
  end)
  return ready
end
