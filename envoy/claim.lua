-- The claim filter: makes what a token has proved the caller's principal. The filter for tokens stands before it,
-- and strangers.lua, as a script.

function envoy_on_request(handle)
  local headers = handle:headers()
  local claim = headers:get("x-warm-claim")
  if claim == nil then return turn_away(handle, headers) end
  headers:remove("x-warm-claim")
  headers:replace("x-warm-principal", claim)
  handle:clearRouteCache()
end
