-- Finds and rewrites the member "model" of the JSON object that a buffered body of an OpenAI-style call is.
-- A worker of Envoy does nothing else meanwhile, and a body may be 16 MiB of brackets: so what is done for each byte is what
-- LuaJIT compiles, which patterns are not.

local byte, find, sub = string.byte, string.find, string.sub
local TAB, NEWLINE, RETURN, BLANK, QUOTE, COLON, BACKSLASH = 9, 10, 13, 32, 34, 58, 92
local OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = 91, 93, 123, 125

-- The closing quote of the text whose opening quote is at `at`.
local function string_end(text, at)
  local from = at + 1
  while true do
    local found = find(text, '"', from, true)
    if found == nil then return nil end
    -- One that an odd number of backslashes stands before is escaped.
    local before = found - 1
    while byte(text, before) == BACKSLASH do before = before - 1 end
    if (found - before) % 2 == 1 then return found end
    from = found + 1
  end
end

-- The first byte from `at` that is no blank, and where it is.
local function behind_blanks(text, at)
  local mark = byte(text, at)
  while mark == BLANK or mark == NEWLINE or mark == RETURN or mark == TAB do
    at = at + 1
    mark = byte(text, at)
  end
  return mark, at
end

-- The value of the member "model", and where it begins and ends between its quotes; nil when the body is in any doubt.
local function find_model(text)
  local mark, at = behind_blanks(text, 1)
  if mark ~= OPEN_OBJECT then return nil end
  local depth, model, first, last = 1, nil, nil, nil
  while depth > 0 do
    at = at + 1
    mark = byte(text, at)
    if mark == nil then return nil
    elseif mark == OPEN_OBJECT or mark == OPEN_LIST then depth = depth + 1
    elseif mark == CLOSE_OBJECT or mark == CLOSE_LIST then depth = depth - 1
    elseif mark == QUOTE then
      local opening = at
      at = string_end(text, opening)
      if at == nil then return nil end
      local colon, value
      if depth == 1 then colon, value = behind_blanks(text, at + 1) end
      if colon == COLON then
        local key = sub(text, opening + 1, at - 1)
        if find(key, "\\", 1, true) then return nil end
        if key == "model" then
          mark, value = behind_blanks(text, value + 1)
          if model ~= nil or mark ~= QUOTE then return nil end
          at = string_end(text, value)
          if at == nil then return nil end
          first, last = value + 1, at - 1
          model = sub(text, first, last)
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
