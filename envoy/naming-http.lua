-- The naming filter of the HTTP port. The scope key there is the third segment of the path, so a V2 path needs no help
-- and never comes here when its model is warm. What comes here is brought into that form:
--   /v1/models/NAME:predict   ->  /v1/models/NAME/:predict   (the route puts it back)
--   /v2/models/NAME?query     ->  /v2/models/NAME            (the key would hold the query)
function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if path == nil then return end
  local name, rest = string.match(path, "^/v1/models/([%w%._%-]+):(.*)$")
  if name ~= nil then
    headers:replace(":path", "/v1/models/" .. name .. "/:" .. rest)
    handle:clearRouteCache()
    return
  end
  local bare = string.match(path, "^(/v[12]/models/[%w%._%-]+)%?")
  if bare ~= nil then
    headers:replace(":path", bare)
    handle:clearRouteCache()
  end
end
