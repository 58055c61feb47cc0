"""Clients of Redis with explicit retry settings, and the checks made before one is trusted."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from pipeline import urls
from pipeline.errors import InvalidConfiguration
from pipeline.redis.durability import read_durability
from pipeline.server_errors import report_errors
from pipeline.urls import redis_address

OLDEST_REDIS = (7, 0)
RETRY_LATER = (
    redis.exceptions.BusyLoadingError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
    redis.exceptions.MasterDownError,
)
"""Redis answered that it does not take a write now: it is loading, failing over, or full."""

_CONNECT_TIMEOUT_S = 5
_SOCKET_TIMEOUT_S = 30


def redis_client(url: str, reply_within_s: float = _SOCKET_TIMEOUT_S) -> redis.Redis:
    """A client that never repeats a command by itself: redis-py's default would apply one twice
    after a lost reply.

    `url`: `redis://`, `rediss://`, or Sentinels joined by `;` with `?master_name=`. Opens no
    connection. Raises `InvalidConfiguration` when it is none of these.
    """
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": reply_within_s,
        "socket_connect_timeout": min(reply_within_s, _CONNECT_TIMEOUT_S),
        "socket_keepalive": True,
    }
    try:
        if url.startswith("sentinel://"):
            return _sentinel_client(url, options)
        urls.split_url(url, urls.REDIS_SCHEMES)
        bare, tls = _take_tls(url)
        client = redis.Redis.from_url(bare, **options, **tls)
        # Takes the URL's options, and says only now when it does not know one of them.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
        return client
    except (ValueError, TypeError) as error:
        raise InvalidConfiguration(
            f"the Redis URL {urls.mask_url(url)} is wrong ({error}): "
            "use redis://:PASSWORD@HOST:PORT/0"
        ) from error


def _take_tls(url: str) -> tuple[str, dict[str, Any]]:
    """The URL without what it says of TLS, and that as options."""
    address, _, query = url.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    others = {name: given[name] for name in given if name not in urls.REDIS_TLS_PARAMETERS}
    tls = redis_address.read_tls(address.partition(":")[0], given)
    return f"{address}?{urlencode(others)}" if others else address, tls


def _sentinel_client(url: str, options: dict[str, Any]) -> redis.Redis:
    address = redis_address.parse_redis_url(url)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        address.sentinels,
        # Else a Sentinel that is down would be tried four times, for seconds, before the next.
        sentinel_kwargs={**options, **address.sentinel_options},
        db=address.database,
        **address.credentials,
        **address.tls,
        **options,
    )
    master: redis.Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
        address.master_name,
        connection_class=_MasterTlsConnection if address.tls else _MasterConnection,
    )
    return master


class _WithoutClient:
    """Works without a client too, as the publisher uses it.

    redis-py's goes back to where the master was when it has been cut off, and stays open after an
    error, so that a late reply would be taken for that of the next command.
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self.connect()  # type: ignore[attr-defined]
        super().send_packed_command(command, check_health)  # type: ignore[misc]

    def read_response(
        self, disable_decoding: bool = False, *, disconnect_on_error: bool | None = True, **how: Any
    ) -> Any:
        return super().read_response(  # type: ignore[misc]
            disable_decoding, disconnect_on_error=disconnect_on_error, **how
        )


class _MasterConnection(_WithoutClient, SentinelManagedConnection):
    """To the master that Sentinels name."""


class _MasterTlsConnection(_WithoutClient, SentinelManagedSSLConnection):
    """The same over TLS."""


def server_time_s(client: redis.Redis) -> int:
    """Redis's clock (Unix seconds)."""
    seconds, _ = client.time()
    return seconds


def check_redis(client: redis.Redis, appendfsync: str) -> str | None:
    """Refuse a Redis that could lose or evict what it has acknowledged.

    `appendfsync` is what the settings ask for: "always", or "everysec" for those who accept to lose
    two seconds. Returns a line to log about what Redis does not say, None when it says all. Raises
    `InvalidConfiguration` naming what to change, or `ServerUnavailable`.
    """
    with report_errors(redis=client):
        found = read_durability(client, appendfsync)
    if found.version and _numbers(found.version)[:2] < OLDEST_REDIS:
        raise InvalidConfiguration(
            f"Redis {found.version} is too old: 7.0 is the oldest that works"
        )
    if found.faults:
        raise InvalidConfiguration(found.faults[0])
    return found.explain()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
