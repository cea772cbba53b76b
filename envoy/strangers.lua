-- Turns away who has proved nothing, where no policy opens anything to everybody: so a flood of strangers costs no JavaScript.
-- Stands before the last script that finds out who calls. CLOSED, REASON and OPEN (paths about the server, which everybody may
-- ask) stand before this.

local function turn_away(handle, headers)
  if not CLOSED or headers:get("x-warm-principal") ~= "-" then return end
  if OPEN[string.match(headers:get(":path") or "", "^[^?]*")] then return end
  handle:respond({ [":status"] = "401" }, REASON)
end
