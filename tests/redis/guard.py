"""Scripts under guard: one that touches a key which it has not declared fails, as a Cluster may have it elsewhere."""

from __future__ import annotations

from hashlib import sha1

from flowkit_redis.scripts import Script, script

_GUARD = b"""
local may = {}
for n = 1, #KEYS do may[KEYS[n]] = true end
local real = redis
local redis = { call = function(name, key, ...)
  if name == 'TIME' then return real.call(name) end
  if name ~= 'PUBLISH' and not may[key] then error('undeclared key: ' .. key) end
  return real.call(name, key, ...)
end }
"""


def guarded(name: str, *, flagged: bool = True) -> Script:
    """The script, as a server would run it that lets it touch no key but those in KEYS."""
    first, _, rest = script(name, flagged=flagged).text.partition(b"\n")
    text = first + _GUARD + rest
    return Script(name, text, sha1(text, usedforsecurity=False).hexdigest().encode())
