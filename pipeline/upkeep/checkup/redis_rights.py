"""Whether the Redis user may do what workers, beat and the web server do.

Redis says itself what it would refuse: a script asks for each command, on names that stand for all
of ours, and runs none of them. Docs: docs/guides/deploying/redis-rights.md.
"""

from __future__ import annotations

import redis

from pipeline.contract import PRIORITY_SUFFIXES
from pipeline.installation import queues_of
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script
from pipeline.upkeep.checkup.check import Check

PAGE = "docs/guides/deploying/redis-rights.md"
_RIGHTS = Script("pipeline.upkeep.checkup.rights")

ON_OUR_KEYS = (
    *("DEL", "EXISTS", "EXPIRE 1", "EXPIREAT 1", "GET", "GETDEL", "HDEL f", "HEXISTS f", "HGET f"),
    *("HGETALL", "HINCRBY f 1", "HKEYS", "HLEN", "HMGET f", "HSCAN 0", "HSET f v", "HSETNX f v"),
    *("INCR", "INCRBY 1", "LLEN", "LPOP", "LPUSH v", "LRANGE 0 1", "LREM 1 v", "LSET 0 v"),
    *("LTRIM 0 1", "MGET", "PERSIST", "PEXPIRE 1", "PTTL", "RPOP", "RPUSH v", "SADD v", "SCARD"),
    *("SET v", "SISMEMBER v", "SMEMBERS", "SPOP", "SRANDMEMBER", "SREM v", "TYPE", "UNLINK"),
    *("XACK g 1-0", "XADD * f v", "XDEL 1-0", "XLEN", "XRANGE - +", "XREVRANGE + -"),
    *("ZADD 1 v", "ZCARD", "ZCOUNT 0 1", "ZRANGE 0 1", "ZRANGEBYSCORE 0 1", "ZREM v"),
    *("ZREMRANGEBYRANK 0 1", "ZREMRANGEBYSCORE 0 1", "ZREVRANGEBYSCORE 1 0", "ZSCORE v"),
)
"""Command and what follows the key, as scripts and clients of ours use them."""
_OTHERS = (
    ("RENAME", "{key}", "{key}"),
    ("XGROUP", "CREATE", "{key}", "g", "0"),
    ("XINFO", "GROUPS", "{key}"),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "{key}", ">"),
    ("LPUSH", "{queue}", "v"),
    ("BRPOP", "{queue}", "1"),
    ("SADD", "_kombu.binding.celery.pidbox", "v"),
    ("SMEMBERS", "_kombu.binding.celery.pidbox"),
    ("PUBLISH", "/0.celery.pidbox", "v"),
    ("EVALSHA", "0", "0"),
    ("SCRIPT", "LOAD", "v"),
    ("MULTI",),
    ("EXEC",),
    ("SCAN", "0"),
    ("TIME",),
)


def list_commands(keys: Keys) -> list[tuple[str, ...]]:
    """What is asked for, a command each."""
    places = {
        "{key}": f"{keys.prefix}live:0",
        "{queue}": queues_of(keys.prefix).events + PRIORITY_SUFFIXES[0],
    }
    of_keys = [
        (name, places["{key}"], *rest) for name, *rest in (one.split() for one in ON_OUR_KEYS)
    ]
    return [*of_keys, *(tuple(places.get(part, part) for part in one) for one in _OTHERS)]


def check_rights(client: redis.Redis, keys: Keys) -> Check:
    """Which of them this user may not run. Raises redis.RedisError when Redis is away."""
    commands = list_commands(keys)
    args = [part for one in commands for part in (len(one), *one)]
    try:
        positions: list[int] = _RIGHTS.run(client, keys=[], args=args)
    except redis.exceptions.NoPermissionError as error:
        what = f"this user may run no script of ours ({error})"
        return Check("redis rights", "wrong", what, f"grant it the rights that {PAGE} lists")
    except redis.ResponseError as error:
        what = f"Redis does not say what this user may do ({error})"
        return Check("redis rights", "unknown", what, f"see that it has the rights of {PAGE}")
    if not positions:
        return Check("redis rights", "fine", "this user may do all that workers do")
    refused = [commands[position - 1] for position in positions]
    shown = ", ".join(f"{name} {''.join(rest[:1])}".strip() for name, *rest in refused[:5])
    more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
    what = f"{_name_user(client)} may not run {shown}{more}"
    return Check("redis rights", "wrong", what, f"grant it the rights that {PAGE} lists")


def _name_user(client: redis.Redis) -> str:
    try:
        name: bytes | str = client.acl_whoami()
    except redis.ResponseError:
        return "this user"
    return f"the user {name if isinstance(name, str) else name.decode(errors='replace')}"
