-- Finds and rewrites the member "model" of the JSON object that a buffered body of an OpenAI-style call is.

-- The closing quote of the text whose opening quote is at `at`.
local function string_end(text, at)
  local from = at + 1
  while true do
    local found = string.find(text, '["\\]', from)
    if found == nil then return nil end
    if string.byte(text, found) == 34 then return found end
    from = found + 2
  end
end

-- The value of the member "model", and where it begins and ends between its quotes; nil when the body is in any doubt.
local function find_model(text)
  local at = string.match(text, "^[ \t\r\n]*{()")
  if at == nil then return nil end
  local depth, model, first, last = 1, nil, nil, nil
  while depth > 0 do
    local found, _, mark = string.find(text, '(["{}%[%]])', at)
    if found == nil then return nil end
    at = found + 1
    if mark == "{" or mark == "[" then depth = depth + 1
    elseif mark == "}" or mark == "]" then depth = depth - 1
    else
      local closing = string_end(text, found)
      if closing == nil then return nil end
      at = closing + 1
      local value = depth == 1 and string.match(text, "^[ \t\r\n]*:[ \t\r\n]*()", at)
      if value then
        local key = string.sub(text, found + 1, closing - 1)
        if string.find(key, "\\", 1, true) then return nil end
        if key == "model" then
          if model ~= nil or string.sub(text, value, value) ~= '"' then return nil end
          local stop = string_end(text, value)
          if stop == nil then return nil end
          first, last = value + 1, stop - 1
          model = string.sub(text, first, last)
          at = stop + 1
        end
      end
    end
  end
  return model, first, last
end

-- Puts another name where find_model found one.
local function rename_model(handle, body, text, first, last, name)
  local size = body:setBytes(string.sub(text, 1, first - 1) .. name .. string.sub(text, last + 1))
  if handle:headers():get("content-length") ~= nil then
    handle:headers():replace("content-length", tostring(size))
  end
end
