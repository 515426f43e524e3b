"""Envoy's Lua filter: it finds the client of a request by key or token, and decides whether the client may do this.

Envoy's own filter has verified a token before. The script finds a key by its hash. A worker spends some microseconds on
the hash when it meets a key for the first time, and reads a table afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from endcap_serving.gateway.access.policy import SCOPES, Claim, Issuer, Policy
from endcap_serving.names import CLIENT_HEADER, KEY_HEADER, SCOPE_HEADER

FILTER = "endcap.access"
"""The filter's name. Routes state the scope that they need under it, and refusals their code."""
JWT = "envoy.filters.http.jwt_authn"
FAILED = "failed"
"""The name under which the filter for tokens says why it took none."""
LONGEST_KEY = 256
"""Bytes."""


@dataclass(frozen=True)
class _Refusal:
    """An answer of the script."""

    status: str
    text: str
    code: str


_SEND_CREDENTIAL = "send x-endcap-key: KEY, or authorization: Bearer TOKEN"
_ASK_OPERATOR = "ask the operator of this gateway to change the access policy"
_REFUSALS = {
    "missing": _Refusal(
        "401", f"this request needs a key or a token; {_SEND_CREDENTIAL}", code="gateway.credential-missing"
    ),
    "invalid": _Refusal(
        "401", f"the key or the token is not valid; {_SEND_CREDENTIAL}", code="gateway.credential-invalid"
    ),
    "scope": _Refusal(
        "403", f"this client lacks the scope that the request needs; {_ASK_OPERATOR}", code="gateway.scope-missing"
    ),
    "recommender": _Refusal(
        "403", f"this client may not use this recommender; {_ASK_OPERATOR}", code="gateway.recommender-forbidden"
    ),
    "issuer": _Refusal(
        "503", "the keys of the token's issuer cannot be read; try again", code="gateway.issuer-unreachable"
    ),
    "failed": _Refusal(
        "503", "the gateway cannot decide whether this request is allowed; try again", code="gateway.access-undecided"
    ),
}


def write_script(policy: Policy) -> str:
    """Write the script for a policy.

    Parameters
    ----------
    policy
        The clients and issuers. The script has the hashes of keys, never a key.

    Returns
    -------
    str
        A program in Lua.
    """
    clients = {
        key.removeprefix("sha256:"): {
            "name": client.name,
            "scopes": _make_set(client.scopes),
            "recommenders": None if client.recommenders is None else _make_set(client.recommenders),
        }
        for client in policy.clients
        for key in client.keys
    }
    issuers = {name_payload(number): _describe_issuer(issuer) for number, issuer in enumerate(policy.issuers)}
    values = {
        "filter": FILTER,
        "jwt": JWT,
        "failed": FAILED,
        "scopes": list(SCOPES),
        "refusals": {name: asdict(refusal) for name, refusal in _REFUSALS.items()},
        "anonymous": _make_set(policy.anonymous),
        "clients": clients,
        "issuers": issuers,
        "key_header": KEY_HEADER,
        "scope_header": SCOPE_HEADER,
        "client_header": CLIENT_HEADER,
        "longest_key": LONGEST_KEY,
    }
    return f"local policy = {_write_lua(values)}\n{_SCRIPT}"


def name_payload(number: int) -> str:
    """Return the name under which the filter for tokens stores the claims of an issuer's token."""
    return f"issuer-{number}"


def _describe_issuer(issuer: Issuer) -> dict[str, object]:
    claims = issuer.claims
    return {
        "client": _list_path(claims.client),
        "scopes": _list_path(claims.scopes),
        "by_claim": None if claims.recommenders is None else _list_path(claims.recommenders),
        "recommenders": None if issuer.recommenders is None else _make_set(issuer.recommenders),
    }


def _list_path(claim: Claim) -> list[str]:
    return [claim] if isinstance(claim, str) else list(claim)


def _make_set(names: Iterable[str]) -> dict[str, bool]:
    """Make a set as Lua has it: a table of names to true."""
    return dict.fromkeys(names, True)


def _write_lua(value: object) -> str:
    """Write a value in Lua."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            # All bytes except letters and digits become numbers, so no text of a policy can become code.
            text = "".join(
                chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:03d}" for byte in value.encode()
            )
            return f'"{text}"'
        case Mapping():
            pairs = (f"[{_write_lua(key)}]={_write_lua(member)}" for key, member in value.items() if member is not None)
            return "{" + ",".join(pairs) + "}"
        case list():
            return "{" + ",".join(map(_write_lua, value)) + "}"
    raise TypeError(type(value))


_SHA256 = r"""
local bit = require("bit")
local band, bxor, bnot, ror, rshift = bit.band, bit.bxor, bit.bnot, bit.ror, bit.rshift
local rounds = {
  0x428a2f98,0x71374491,0xb5c0fbcf,0xe9b5dba5,0x3956c25b,0x59f111f1,0x923f82a4,0xab1c5ed5,
  0xd807aa98,0x12835b01,0x243185be,0x550c7dc3,0x72be5d74,0x80deb1fe,0x9bdc06a7,0xc19bf174,
  0xe49b69c1,0xefbe4786,0x0fc19dc6,0x240ca1cc,0x2de92c6f,0x4a7484aa,0x5cb0a9dc,0x76f988da,
  0x983e5152,0xa831c66d,0xb00327c8,0xbf597fc7,0xc6e00bf3,0xd5a79147,0x06ca6351,0x14292967,
  0x27b70a85,0x2e1b2138,0x4d2c6dfc,0x53380d13,0x650a7354,0x766a0abb,0x81c2c92e,0x92722c85,
  0xa2bfe8a1,0xa81a664b,0xc24b8b70,0xc76c51a3,0xd192e819,0xd6990624,0xf40e3585,0x106aa070,
  0x19a4c116,0x1e376c08,0x2748774c,0x34b0bcb5,0x391c0cb3,0x4ed8aa4a,0x5b9cca4f,0x682e6ff3,
  0x748f82ee,0x78a5636f,0x84c87814,0x8cc70208,0x90befffa,0xa4506ceb,0xbef9a3f7,0xc67178f2
}
local function sha256(text)
  local length = #text
  local zeros = (55 - length) % 64
  local bits = length * 8
  text = text .. "\128" .. string.rep("\0", zeros + 4) ..
    string.char(band(rshift(bits, 24), 255), band(rshift(bits, 16), 255), band(rshift(bits, 8), 255), band(bits, 255))
  local state = {0x6a09e667,0xbb67ae85,0x3c6ef372,0xa54ff53a,0x510e527f,0x9b05688c,0x1f83d9ab,0x5be0cd19}
  local w = {}
  for at = 1, #text, 64 do
    for i = 1, 16 do
      local a, b, c, d = string.byte(text, at + 4 * i - 4, at + 4 * i - 1)
      w[i] = bit.bor(bit.lshift(a, 24), bit.lshift(b, 16), bit.lshift(c, 8), d)
    end
    for i = 17, 64 do
      local x, y = w[i - 15], w[i - 2]
      w[i] = bit.tobit(w[i - 16] + bxor(ror(x, 7), ror(x, 18), rshift(x, 3)) + w[i - 7]
        + bxor(ror(y, 17), ror(y, 19), rshift(y, 10)))
    end
    local a, b, c, d, e, f, g, h = unpack(state)
    for i = 1, 64 do
      local t1 = h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f), band(bnot(e), g)) + rounds[i] + w[i]
      local t2 = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
      h, g, f, e, d, c, b, a = g, f, e, bit.tobit(d + t1), c, b, a, bit.tobit(t1 + t2)
    end
    for i, value in ipairs({a, b, c, d, e, f, g, h}) do state[i] = bit.tobit(state[i] + value) end
  end
  for i = 1, 8 do state[i] = bit.tohex(state[i]) end
  return table.concat(state)
end
"""

_SCRIPT = (
    _SHA256
    + r"""
local clients_by_key = {}

local function find_client(key)
  if #key > policy.longest_key then return nil end
  local client = clients_by_key[key]
  if client == nil then
    client = policy.clients[sha256(key)]
    -- Only valid keys stay here, so the table is small.
    clients_by_key[key] = client
  end
  return client
end

local function read_claim(payload, path)
  for _, name in ipairs(path) do
    if type(payload) ~= "table" then return nil end
    payload = payload[name]
  end
  return payload
end

local function make_set(value)
  local names = {}
  if type(value) == "string" then
    for name in string.gmatch(value, "%S+") do names[name] = true end
  elseif type(value) == "table" then
    for _, name in pairs(value) do
      if type(name) == "string" then names[name] = true end
    end
  end
  return names
end

local function find_token_client(tokens)
  for number, issuer in pairs(policy.issuers) do
    local payload = tokens[number]
    if payload ~= nil then
      local name = read_claim(payload, issuer.client)
      if type(name) ~= "string" or not string.match(name, "^[%w._@:/|-]+$") or #name > 128 then return nil, true end
      local allowed = issuer.recommenders
      if issuer.by_claim ~= nil then
        local claimed = make_set(read_claim(payload, issuer.by_claim))
        for recommender in pairs(claimed) do
          if allowed ~= nil and not allowed[recommender] then claimed[recommender] = nil end
        end
        allowed = claimed
      end
      local scopes = make_set(read_claim(payload, issuer.scopes))
      return {name = number .. "/" .. name, scopes = scopes, recommenders = allowed}
    end
  end
  return nil
end

local function refuse(name, fields)
  return {refusal = policy.refusals[name], fields = fields}
end

local function decide(handle)
  local headers = handle:headers()
  local key, bearer = headers:get(policy.key_header), headers:get("authorization")
  -- Other schemes belong to others, such as a proxy in front.
  if bearer ~= nil and not string.match(string.lower(bearer), "^bearer ") then bearer = nil end
  local client
  if key ~= nil then
    if headers:getNumValues(policy.key_header) == 1 then client = find_client(key) end
    if client == nil then return refuse("invalid", {reason = "the key is not known"}) end
  elseif next(policy.issuers) ~= nil then
    local tokens = handle:streamInfo():dynamicMetadata():get(policy.jwt)
    local verified
    -- Envoy has removed the header of a valid token.
    if tokens ~= nil then client, verified = find_token_client(tokens) end
    if client == nil and (verified or bearer ~= nil) then
      local failed = tokens ~= nil and tokens[policy.failed]
      local reason = "the token names no client"
      if type(failed) == "table" and type(failed.message) == "string" then reason = failed.message end
      if string.find(reason, "^Jwks remote fetch") then return refuse("issuer", {reason = reason}) end
      return refuse("invalid", {reason = reason})
    end
  end

  local route = handle:metadata()
  local needs, recommender = route:get("needs"), route:get("recommender")
  local scopes = policy.anonymous
  if client ~= nil then
    scopes = client.scopes
    if recommender ~= nil and client.recommenders ~= nil and not client.recommenders[recommender] then
      return refuse("recommender", {recommender = recommender})
    end
  end
  -- A route without a scope needs a client: otherwise its answers would show which recommenders there are.
  local allowed = client ~= nil
  if needs ~= nil then allowed = scopes[needs] end
  if not allowed then
    return refuse(client == nil and "missing" or "scope", {needs = needs or "any"})
  end
  local names = {}
  for _, scope in ipairs(policy.scopes) do
    if scopes[scope] then names[#names + 1] = scope end
  end
  headers:replace(policy.scope_header, table.concat(names, ","))
  if client ~= nil then headers:replace(policy.client_header, client.name) end
  return nil
end

function envoy_on_request(handle)
  -- Envoy sends a request on after an error of the script, so the error is caught here.
  local success, result = pcall(decide, handle)
  if not success then
    handle:logErr(tostring(result))
    result = refuse("failed", {})
  end
  if result == nil then return end
  local refusal = result.refusal
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(policy.filter, "code", refusal.code)
  metadata:set(policy.filter, "fields", result.fields)
  local headers = {[":status"] = refusal.status}
  if refusal.status == "503" then headers["retry-after"] = "1" end
  if refusal.status == "401" then headers["www-authenticate"] = 'Bearer realm="endcap"' end
  handle:respond(headers, refusal.text)
end
"""
)
