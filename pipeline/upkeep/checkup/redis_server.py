"""Redis: that it answers, keeps what it acknowledges, has room, and goes by the same clock."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from pipeline.errors import PipelineError, ServerUnavailable
from pipeline.redis.client import OLDEST_REDIS
from pipeline.redis.durability import (
    APPEND_ONLY,
    EVICTION,
    ROLE,
    SYNC,
    TOPICS,
    read_durability,
)
from pipeline.redis.keys import Keys
from pipeline.server_errors import report_errors
from pipeline.upkeep.checkup.check import Check, split
from pipeline.upkeep.checkup.redis_rights import check_rights
from pipeline.upkeep.condition.room import READ_ONLY, find_refusal

CLOCKS_DIFFER_S = 5.0
_NEARLY_FULL = 0.9
_FINE = {
    EVICTION: "no key is evicted",
    APPEND_ONLY: "there is one",
    SYNC: "it syncs as the settings want",
    ROLE: "it takes writes",
}
_REPLICA = "Redis is read-only: give the address of its primary"
_MAY_INFO = "grant the user +info +config|get, or make sure of it yourself"


def check_redis(client: redis.Redis, keys: Keys, appendfsync: str) -> Iterator[Check]:
    """Checks of the server, from the gravest on; where it does not answer that alone."""
    try:
        with report_errors(redis=client):
            client.ping()
            offset_s = _measure_offset_s(client)
            found = read_durability(client, appendfsync)
            memory = _read_memory(client)
            refusal = find_refusal(client)
    except ServerUnavailable as error:
        yield Check("redis", "away", f"{error}")
        return
    except PipelineError as error:
        yield split("redis", "wrong", f"{error}")
        return
    yield Check("redis", "fine", "answers")
    yield _check_version(found.version)
    faults, unknown = dict(found.faults_by_topic), dict(found.unknown_by_topic)
    if refusal == READ_ONLY:  # also where Redis does not say its role
        faults.setdefault(ROLE, _REPLICA)
        refusal = None
    for topic in TOPICS:
        if topic in faults:
            yield split(f"redis {topic}", "wrong", faults[topic])
        elif topic in unknown:
            what = f"Redis does not say {unknown[topic]}"
            yield Check(f"redis {topic}", "unknown", what, _MAY_INFO)
        else:
            yield Check(f"redis {topic}", "fine", _FINE[topic])
    yield _check_memory(memory, refusal)
    yield judge_clock("redis", "Redis", offset_s)
    yield check_rights(client, keys)


def judge_clock(name: str, server: str, offset_s: float) -> Check:
    """Whether a server's clock agrees with this machine's; `offset_s` is by how much it is ahead.
    Events belong to the hour that a clock says."""
    name = f"{name} clock"
    if abs(offset_s) <= CLOCKS_DIFFER_S:
        return Check(name, "fine", f"within {CLOCKS_DIFFER_S:g} s of this machine's")
    direction = "ahead of" if offset_s > 0 else "behind"
    what = f"the clock of {server} is {abs(offset_s):.0f} s {direction} that of this machine"
    return Check(name, "wrong", what, "have both set by NTP; `timedatectl` shows which is off")


def _measure_offset_s(client: redis.Redis) -> float:
    before = time.time()
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6 - (before + time.time()) / 2)


def _read_memory(client: redis.Redis) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = client.info("memory")
    except redis.ResponseError:
        return {}
    return found


def _check_version(version: str) -> Check:
    oldest = ".".join(str(part) for part in OLDEST_REDIS)
    if not version:
        return Check("redis version", "unknown", "Redis does not say its version", _MAY_INFO)
    if tuple(int(part) for part in re.findall(r"\d+", version))[:2] < OLDEST_REDIS:
        what = f"Redis {version} is too old"
        return Check("redis version", "wrong", what, f"{oldest} is the oldest that works")
    return Check("redis version", "fine", version)


def _check_memory(memory: Mapping[str, Any], refusal: str | None) -> Check:
    name = "redis memory"
    if refusal is not None:
        what = f"Redis refuses new events ({refusal})"
        return Check(name, "wrong", what, "`analytics status` says what to do")
    if "maxmemory" not in memory:
        return Check(name, "unknown", "Redis does not say how full it is", _MAY_INFO)
    used, limit = int(memory["used_memory"]), int(memory["maxmemory"])
    if limit and used > _NEARLY_FULL * limit:
        return Check(
            name,
            "wrong",
            f"Redis has filled {used / limit:.0%} of its maxmemory",
            "see that event and flush workers run, which makes room, or raise maxmemory",
        )
    return Check(name, "fine", f"{used / limit:.0%} of maxmemory" if limit else "no maxmemory")
