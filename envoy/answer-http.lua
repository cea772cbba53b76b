-- Makes the answer of a model server say the public name of a model whose revision has a slot, where it is called
-- NAME~SLOT: in "model_name" (V2), "name" (metadata, V1) and "model" (OpenAI-style, of each event of a stream). The slot is
-- replaced by spaces behind the closing quote, so the length stays. The route says in a header what the public name is.

local KEYS = { "model_name", "name", "model" }

local function escape(name)
  return (string.gsub(name, "[%.%-]", "%%%0"))
end

-- Could `tail`, which begins with a quote, go on to be one of the members looked for?
local function may_become(tail, name)
  for _, key in ipairs(KEYS) do
    local quoted = '"' .. key .. '"'
    if #tail <= #quoted then
      if tail == string.sub(quoted, 1, #tail) then return true end
    elseif string.sub(tail, 1, #quoted) == quoted then
      local rest = string.sub(tail, #quoted + 1)
      local value = string.match(rest, "^%s*:%s*(.*)$")
      if value == nil then return string.find(rest, "^%s*$") ~= nil end
      local whole = '"' .. name .. "~"
      if #value <= #whole then return value == string.sub(whole, 1, #value) end
      return string.sub(value, 1, #whole) == whole and string.find(string.sub(value, #whole + 1), "^%d?%d?$") ~= nil
    end
  end
  return false
end

-- Where the part begins that must wait for more; behind the end when none must.
local function held_from(text, name)
  local from = math.max(1, #text - #name - 40)
  while true do
    local quote = string.find(text, '"', from, true)
    if quote == nil then return #text + 1 end
    if may_become(string.sub(text, quote), name) then return quote end
    from = quote + 1
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local marked = headers:get("x-warm-answer-name")
  if marked == nil then return end
  headers:remove("x-warm-answer-name")
  if headers:get("content-encoding") ~= nil then return end
  local name = string.match(marked, "/models/([%w%._%-]+)") or string.match(marked, "^[%w%._%-]+$")
  if name == nil then return end
  -- Behind the JSON of an answer with binary tensors stands what must not be touched.
  local json = tonumber(headers:get("inference-header-content-length") or "") or math.huge
  local kind = headers:get("content-type") or ""
  local events = string.find(kind, "^text/event%-stream") ~= nil
  if json == math.huge and not events and string.find(kind, "json", 1, true) == nil then return end
  local pattern = '("[%w_]+"%s*:%s*"' .. escape(name) .. ')(~%d%d?)"'
  local held = ""
  local function replace(front, slot)
    local key = string.match(front, '^"([%w_]+)"')
    if key ~= "model_name" and key ~= "name" and key ~= "model" then return nil end
    return front .. '"' .. string.rep(" ", #slot)
  end
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if length > 0 then
      local text = held .. chunk:getBytes(0, length)
      local rest = ""
      if #text > json then text, rest = string.sub(text, 1, json), string.sub(text, json + 1) end
      text = string.gsub(text, pattern, replace)
      local from = rest == "" and held_from(text, name) or #text + 1
      held = string.sub(text, from)
      chunk:setBytes(string.sub(text, 1, from - 1) .. rest)
      json = json - from + 1
      if json <= 0 then return end
    end
  end
end
