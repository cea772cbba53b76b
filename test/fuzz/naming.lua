-- What Envoy gives a script, as far as the naming filters use it: headers, one buffered body, the metadata of the route.
-- What is found of a route is told by the case: `slot`, once the cache was cleared.
local function headers_of(values)
  local headers = {}
  function headers:get(name) return values[name] end
  function headers:replace(name, value) values[name] = value end
  function headers:remove(name) values[name] = nil end
  return headers
end

local function body_of(state)
  local body = {}
  function body:length() return #state.body end
  function body:getBytes(from, size)
    if from < 0 or size < 0 or from + size > #state.body then error("index/length must be >= 0 and (index + length) must be <= buffer size") end
    return string.sub(state.body, from + 1, from + size)
  end
  function body:setBytes(text)
    state.body = text
    return #text
  end
  return body
end

function run_case(source, values, text, slot)
  local state = { body = text, cleared = false }
  local handle = {}
  function handle:headers() return headers_of(values) end
  function handle:body() return body_of(state) end
  function handle:bodyChunks() return function() return nil end end
  function handle:clearRouteCache() state.cleared = true end
  function handle:metadata()
    return { get = function(_, name) if name == "slot" and state.cleared then return slot end return nil end }
  end
  function handle:streamInfo()
    return { dynamicMetadata = function() return { get = function() return nil end } end }
  end
  local ok, reason = pcall(source, handle)
  return ok, ok and state.body or tostring(reason)
end

function load_script(text)
  local env = setmetatable({}, { __index = _G })
  local chunk = assert(loadstring(text))
  setfenv(chunk, env)
  chunk()
  return env.envoy_on_request
end
