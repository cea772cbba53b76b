-- The filter of clusters whose pods speak V2 over gRPC alone: a call over REST becomes one over gRPC before it is sent to a
-- pod, or to the reroute listener, and what comes back becomes an answer over REST. All of a body is held for that.
--   POST /v2/models/NAME[/versions/V]/infer  ->  ModelInfer
--   GET  /v2/models/NAME[/versions/V]        ->  ModelMetadata
--   GET  /v2/models/NAME[/versions/V]/ready  ->  ModelReady
-- A second try of a request comes with the headers that the first has left, but with the body as it came: so what the call was
-- stands in x-warm-rest-call. Where NAME~SLOT names a revision, NAME is what the client calls the model.
-- All other files of this folder stand before this.

local SERVICE = "/inference.GRPCInferenceService/"
local METADATA = "warm.translate"
-- Of a body over this the memory is given back at once.
local LARGE = 262144

local HTTP_OF_GRPC = {
  ["1"] = "499", ["2"] = "500", ["3"] = "400", ["4"] = "504", ["5"] = "404", ["6"] = "409", ["7"] = "403", ["8"] = "429", ["9"] = "412",
  ["10"] = "409", ["11"] = "400", ["12"] = "501", ["13"] = "500", ["14"] = "503", ["15"] = "500", ["16"] = "401",
}

-- What a client says of the model, where its path does, and of the body that it sent is not for the pod; nor is what a model
-- server says of the body that it sent for the client. What either says of gRPC is for neither: to gRPC's libraries some of that
-- means something of their own.
local OF_REQUESTS = {
  expect = true, ["inference-header-content-length"] = true, ["content-encoding"] = true, ["mm-model-id"] = true, ["mm-vmodel-id"] = true,
}
local OF_ANSWERS = { ["inference-header-content-length"] = true, ["content-encoding"] = true }

local function drop(headers, dropped)
  local names = {}
  for name in pairs(headers) do
    if dropped[name] or sub(name, 1, 5) == "grpc-" or sub(name, -4) == "-bin" then names[#names + 1] = name end
  end
  for _, name in ipairs(names) do headers:remove(name) end
end

-- Some servers close the connection, and end everybody's calls, where a request ends with trailers: gRPC has none there.
local function drop_all(trailers)
  if trailers == nil then return end
  local names = {}
  for name in pairs(trailers) do names[#names + 1] = name end
  for _, name in ipairs(names) do trailers:remove(name) end
end

-- A list of texts as one, and back.
local function joined(texts)
  local lines = {}
  for i, given in ipairs(texts) do
    lines[i] = string.gsub(given, "[%z\n%%]", function(char) return string.format("%%%02X", char:byte()) end)
  end
  return table.concat(lines, "\n")
end
local function unescape_percents(value)
  return (string.gsub(value, "%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function error_body(words) return '{"error":' .. quoted(words) .. "}" end

local function tidy(size)
  if size <= LARGE then return end
  free_kept()
  collectgarbage()
end

-- Runs work(...); what it refuses, and what it fails with, is returned behind nil as status and words.
local function attempt(work, ...)
  local ok, a, b = pcall(work, ...)
  if ok then return a, b end
  if type(a) == "table" then return nil, a end
  return nil, { status = "500", words = "the call could not be put into another form", fault = a }
end

-- The JSON's bytes of a body of `length`.
local function json_length(header, length)
  if header == nil then return length end
  if not find(header, "^%d+$") or #header > 15 or tonumber(header) > length then
    bad("Inference-Header-Content-Length must be a number of bytes up to the body's " .. length)
  end
  return tonumber(header)
end

local function named_message(name, version)
  local message = buffer.new():put("\0\0\0\0\0")
  add_field(message, 1, name)
  if version ~= nil then add_field(message, 2, version) end
  return framed(message)
end

-- What the call is: the method, the name on the pod, the version, and the HTTP method that it has to have.
local function parse_call(path)
  path = string.match(path, "^[^?]*")
  local name, rest = string.match(path, "^/v2/models/([%w%._~%-]+)(.*)$")
  if name == nil then return nil end
  local version, call = string.match(rest, "^/versions/([%w%._%-]+)(.*)$")
  if version == nil then call = rest end
  if call == "/infer" then return "ModelInfer", name, version, "POST" end
  if call == "" then return "ModelMetadata", name, version, "GET" end
  if call == "/ready" then return "ModelReady", name, version, "GET" end
  return nil
end

local function translate(method, name, version, body, header)
  if method ~= "ModelInfer" then return named_message(name, version), {} end
  return request_message(body, json_length(header, #body), name, version)
end

-- The listener gives it the form that errors have there.
local function answer_refusal(handle, status, words, more)
  local headers = more or {}
  headers[":status"] = status
  handle:respond(headers, words)
end

local function translate_request(handle)
  local headers = handle:headers()
  local said = headers:get("x-warm-rest-call")
  local verb, path = headers:get(":method"), headers:get(":path") or ""
  local length, encoding = headers:get("inference-header-content-length"), headers:get("content-encoding")
  if said ~= nil then verb, length, path = string.match(said, "^(%S+) (%S*) (.*)$") end
  if length == "" then length = nil end
  local method, name, version, wanted = parse_call(path)
  if method == nil then
    return answer_refusal(handle, "501", "the server of this model speaks gRPC alone: over REST it has V2's infer, ready and metadata")
  end
  if verb ~= wanted and not (verb == "HEAD" and wanted == "GET") then
    return answer_refusal(handle, "405", "use " .. wanted, { allow = wanted })
  end
  if said == nil and encoding ~= nil and encoding ~= "identity" and encoding ~= "" then
    return answer_refusal(handle, "415", "the server of this model speaks gRPC alone: a compressed body cannot be read here, send it plain")
  end
  local body = handle:body(true)
  local size = body:length()
  local message, more = attempt(translate, method, name, version, size > 0 and body:getBytes(0, size) or "", length)
  open_text("")
  tidy(size)
  if message == nil then
    if more.fault ~= nil then handle:logErr("a request could not be translated: " .. tostring(more.fault)) end
    return answer_refusal(handle, more.status, more.words)
  end
  -- The wait for the body ends the life of the first headers object.
  headers = handle:headers()
  if said == nil then
    local told = method == "ModelInfer" and length or ""
    headers:replace("x-warm-rest-call", verb .. " " .. told .. " " .. path)
  end
  local public = string.match(name, "^[^~]*")
  drop(headers, OF_REQUESTS)
  drop_all(handle:trailers())
  headers:replace("x-warm-model", public)
  headers:replace(":method", "POST")
  headers:replace(":path", SERVICE .. method)
  headers:replace("content-type", "application/grpc")
  headers:replace("te", "trailers")
  headers:replace("content-length", tostring(body:setBytes(message)))
  -- One text: every value that is kept there is made a message of Envoy's, and read from it again.
  local said_of_answer = method .. "\n" .. public .. "\n" .. (verb == "HEAD" and "h" or "-") .. (more.all == true and "+" or "-")
  if #more > 0 then said_of_answer = said_of_answer .. "\n" .. joined(more) end
  handle:streamInfo():dynamicMetadata():set(METADATA, "call", said_of_answer)
end

-- The JSON and what stands behind it, of the frame that `body` is.
local function translate_answer(body, call)
  local length = #body - 5
  open_text(body)
  if length < 0 then malformed("has no message") end
  if p[0] ~= 0 then malformed("is compressed") end
  if ((p[1] * 256 + p[2]) * 256 + p[3]) * 256 + p[4] ~= length then malformed("is not one whole message") end
  if call.method == "ModelInfer" then return { infer_json(#body, call.name, call) } end
  if call.method == "ModelMetadata" then return { metadata_json(#body, call.name) } end
  return { '{"name":' .. quoted(call.name) .. ',"ready":' .. tostring(is_ready(#body)) .. "}" }
end

local function unescape_message(message)
  local words = unescape_percents(message)
  if find_malformed(ffi.cast(byte_pointer, words), 0, #words) then words = string.gsub(words, "[\128-\255]", "?") end
  return words
end

local function call_of(handle)
  local kept = handle:streamInfo():dynamicMetadata():get(METADATA)
  if kept == nil then return nil end
  local method, name, verb, sign, outputs = string.match(kept.call, "^([^\n]*)\n([^\n]*)\n(.)(.)(.*)$")
  local call = { method = method, name = name, all = sign == "+", is_head = verb == "h" }
  for output in string.gmatch(outputs, "[^\n]+") do call[#call + 1] = unescape_percents(output) end
  return call
end

local function translate_response(handle)
  local call = call_of(handle)
  -- Refused before it became a call.
  if call == nil then return end
  -- Without any data the wait for them ends in nothing where trailers come, and there is a body to fill once that is known.
  local body = handle:body(true) or handle:body(true)
  local trailers, headers = handle:trailers(), handle:headers()
  local size = body:length()
  local code = headers:get("grpc-status")
  local words = headers:get("grpc-message")
  -- A server that fails midway may have said before that all is well.
  if (code == nil or code == "0") and trailers ~= nil then
    code = trailers:get("grpc-status") or code
    words = trailers:get("grpc-message")
  end
  local kind = headers:get("content-type") or ""
  local status, json, behind
  if sub(kind, 1, 16) ~= "application/grpc" then
    status, words = "502", "the model server does not speak gRPC"
  elseif code == "0" then
    local made, refusal = attempt(translate_answer, size > 0 and body:getBytes(0, size) or "", call)
    open_text("")
    if made ~= nil then
      status, json, behind = "200", made[1], made[2]
      if call.method == "ModelReady" and find(json, '"ready":false', 1, true) then status = "503" end
    else
      status, words = refusal.status, refusal.words
      if refusal.fault ~= nil then handle:logErr("an answer could not be translated: " .. tostring(refusal.fault)) end
    end
  elseif code == nil then
    status, words = "502", "the answer of the model server has no status"
  else
    status, words = HTTP_OF_GRPC[code] or "500", unescape_message(words or "")
  end
  drop(headers, OF_ANSWERS)
  if trailers ~= nil then drop(trailers, OF_ANSWERS) end
  if json == nil then json = error_body(words) end
  headers:replace(":status", status)
  headers:replace("content-type", behind == nil and "application/json" or "application/octet-stream")
  if behind ~= nil then headers:replace("inference-header-content-length", tostring(#json)) end
  local whole = behind == nil and json or json .. behind
  -- An answer to HEAD says how long its body would be, and has none: one that follows is taken for the next answer.
  body:setBytes(call.is_head and "" or whole)
  headers:replace("content-length", tostring(#whole))
  tidy(size)
end
