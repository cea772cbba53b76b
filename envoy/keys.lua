-- The keys filter: who a caller is by its API key. A key is `wk_` and 43 characters, in x-api-key or as a bearer token.
-- Only SHA-256 hashes of keys are known here, in KEYS, which stands before this: hash in hex -> { principal, end in seconds
-- since 1970 or 0 }. The key is taken out of the request: no model server sees it. A bearer token of another form is left
-- to the filter for JWTs.
-- strangers.lua stands before this, for where no filter behind this one could still find out who calls.
-- SHA-256: FIPS 180-4.

local band, bxor, bnot, ror, rshift, tobit = bit.band, bit.bxor, bit.bnot, bit.ror, bit.rshift, bit.tobit

local K = {}
do
  -- The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
  local n, prime = 0, 2
  while n < 64 do
    local is_prime = true
    for d = 2, math.floor(math.sqrt(prime)) do
      if prime % d == 0 then is_prime = false break end
    end
    if is_prime then
      n = n + 1
      local root = prime ^ (1 / 3)
      K[n] = tobit(math.floor((root - math.floor(root)) * 4294967296))
    end
    prime = prime + 1
  end
end

-- Of a text shorter than 56 bytes, which is one block.
local function sha256(text)
  local length = #text
  local block = text .. "\128" .. string.rep("\0", 55 - length) .. string.char(0, 0, 0, 0, 0, 0, math.floor(length / 32), length * 8 % 256)
  local w = {}
  for i = 1, 16 do
    local a, b, c, d = string.byte(block, i * 4 - 3, i * 4)
    w[i] = tobit(a * 16777216 + b * 65536 + c * 256 + d)
  end
  for i = 17, 64 do
    local x, y = w[i - 15], w[i - 2]
    local s0 = bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
    local s1 = bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
    w[i] = tobit(w[i - 16] + s0 + w[i - 7] + s1)
  end
  local h0, h1, h2, h3 = 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a
  local h4, h5, h6, h7 = 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
  local a, b, c, d, e, f, g, h = h0, h1, h2, h3, h4, h5, h6, h7
  for i = 1, 64 do
    local s1 = bxor(ror(e, 6), ror(e, 11), ror(e, 25))
    local ch = bxor(band(e, f), band(bnot(e), g))
    local t1 = tobit(h + s1 + ch + K[i] + w[i])
    local s0 = bxor(ror(a, 2), ror(a, 13), ror(a, 22))
    local maj = bxor(band(a, b), band(a, c), band(b, c))
    local t2 = tobit(s0 + maj)
    h, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + t2)
  end
  local hex = bit.tohex
  return hex(tobit(h0 + a)) .. hex(tobit(h1 + b)) .. hex(tobit(h2 + c)) .. hex(tobit(h3 + d))
    .. hex(tobit(h4 + e)) .. hex(tobit(h5 + f)) .. hex(tobit(h6 + g)) .. hex(tobit(h7 + h))
end

local function refuse(handle, reason)
  handle:respond({ [":status"] = "401" }, reason)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local key = headers:get("x-api-key")
  local name = "x-api-key"
  if key == nil then
    local bearer = headers:get("authorization")
    key = bearer and string.match(bearer, "^[Bb]earer +(wk_.*)$")
    name = "authorization"
  end
  if key == nil then return turn_away(handle, headers) end
  if #key ~= 46 or string.sub(key, 1, 3) ~= "wk_" then return refuse(handle, "the API key is malformed") end
  local known = KEYS[sha256(key)]
  if known == nil then return refuse(handle, "the API key is not known") end
  if known[2] ~= 0 and os.time() >= known[2] then return refuse(handle, "the API key has ended") end
  headers:remove(name)
  headers:replace("x-warm-principal", known[1])
  handle:clearRouteCache()
end
