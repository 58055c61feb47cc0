"""The installations of one Redis: who else is there, and whether two of them would meet."""

from __future__ import annotations

import redis

from pipeline.errors import InvalidConfiguration
from pipeline.installation import check_prefix, outer_prefixes
from pipeline.redis.keys import KINDS, Keys
from pipeline.redis.scripts import Script

_ENTER = Script("pipeline.redis.enter")
_BOOKS = ("published", "consumed", "fetches", "claims")
_SCANNED_AT_ONCE = 2_000


def enter(client: redis.Redis, prefix: str) -> None:
    """Say that an installation with this prefix is here. May be repeated.

    Raises `InvalidConfiguration` where another one is whose keys could be this one's: `shop:user:`
    beside `shop:`. Raises redis.RedisError.
    """
    keys, outer = Keys(prefix), [Keys(one) for one in outer_prefixes(prefix, KINDS)]
    names = [name for one in (keys, *outer) for name in (one.totals, one.inner)]
    met = _ENTER.run(client, keys=names, args=[prefix])
    if met is not None:
        inner, outside = sorted((prefix, met.decode().removesuffix("totals")), key=len)[::-1]
        raise InvalidConfiguration(
            f"ANALYTICS_PREFIX={prefix} would mix two installations: keys of {inner!r} can be keys "
            f"of {outside!r}, and both are on this Redis; give one of them another prefix, or "
            "another Redis"
        )


def find_others(client: redis.Redis, prefix: str) -> list[str]:
    """The prefixes of all other installations of this Redis, sorted. Reads the name of every key,
    a page at a time. Raises redis.RedisError."""
    found = set()
    for name in client.scan_iter("*:totals", count=_SCANNED_AT_ONCE, _type="HASH"):
        try:
            other = check_prefix(name.decode().removesuffix("totals"))
        except ValueError:
            continue
        if other != prefix and any(client.hmget(name, _BOOKS)):
            found.add(other)
    return sorted(found)
