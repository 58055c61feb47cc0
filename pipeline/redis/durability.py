"""Whether Redis keeps what it acknowledges: what it says of itself, and what it does not say.

Managed servers and restricted users often refuse CONFIG, some INFO too. What cannot be read is
unknown: it is said, not taken for good.
"""

from __future__ import annotations

# A process that forks while a thread of it imports a module has that module half imported for ever:
# what a connection imports when it is first made is imported here.
import email.parser  # noqa: F401
import encodings.idna  # noqa: F401
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis

EVICTION, APPEND_ONLY, SYNC, ROLE = "eviction", "append-only file", "sync", "role"
TOPICS = (EVICTION, APPEND_ONLY, SYNC, ROLE)
"""What Redis is asked about."""
_RETRY_S = 5.0
_TRIES = 120
_ADVICE = (
    "it may lose events that it has acknowledged. Make sure that it has appendonly yes, "
    "appendfsync {appendfsync} and maxmemory-policy noeviction"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Durability:
    """What was found: `version` of the server (empty: not said), and by topic the faults by which
    it loses what it acknowledged, each a sentence with its remedy, and what it does not say."""

    version: str
    faults_by_topic: tuple[tuple[str, str], ...]
    unknown_by_topic: tuple[tuple[str, str], ...]
    appendfsync: str

    @property
    def faults(self) -> tuple[str, ...]:
        """The faults alone, the gravest first."""
        return tuple(fault for _, fault in self.faults_by_topic)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What Redis does not say, as half a sentence each."""
        return tuple(what for _, what in self.unknown_by_topic)

    @property
    def is_good(self) -> bool:
        """Whether it is known that nothing acknowledged is lost."""
        return not self.faults and not self.unknown

    def explain(self) -> str | None:
        """What is wrong or unknown, in one line; None where all is good."""
        lines = list(self.faults)
        if self.unknown:
            advice = _ADVICE.format(appendfsync=self.appendfsync)
            lines.append(f"Redis does not say {' nor '.join(self.unknown)}: {advice}")
        return "; ".join(lines) or None


def read_durability(client: redis.Redis, appendfsync: str) -> Durability:
    """Ask Redis; `appendfsync` is what the settings want of it, "always" or "everysec".

    Two commands. Raises redis.RedisError when it does not answer, or runs no script for this user.
    """
    info: Mapping[str, Any] | None = _ask(client.info)
    config: Mapping[str, Any] | None = _ask(
        lambda: client.config_get("appendfsync", "no-appendfsync-on-rewrite")
    )
    if info is None:
        client.script_load("return 1")  # a user who may not do this can do nothing here
    said = info or {}
    return Durability(
        version=str(said.get("valkey_version") or said.get("redis_version") or ""),
        faults_by_topic=tuple(_find_faults(said, config or {}, appendfsync)),
        unknown_by_topic=tuple(_find_unknown(said, config or {})),
        appendfsync=appendfsync,
    )


def warn_in_background(client: redis.Redis, appendfsync: str) -> None:
    """Log one warning where Redis is not known to keep what it acknowledges, as soon as it answers.

    Returns at once, and fails never: a daemon thread asks, and closes the client.
    """
    thread = threading.Thread(
        target=_warn, args=(client, appendfsync), name="redis-durability", daemon=True
    )
    thread.start()


def _warn(client: redis.Redis, appendfsync: str) -> None:
    pause = threading.Event()
    try:
        for _ in range(_TRIES):
            try:
                doubt = read_durability(client, appendfsync).explain()
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                pause.wait(_RETRY_S)
                continue
            if doubt is not None:
                logger.warning("%s", doubt)
            return
    except Exception as error:
        logger.debug("Redis was not asked how it keeps events: %s", error)
    finally:
        client.close()


def _ask(command: Callable[[], Any]) -> Any:
    """The answer, None when the server refuses the command or this user may not give it."""
    try:
        return command()
    except redis.ResponseError:
        return None


def _find_faults(
    info: Mapping[str, Any], config: Mapping[str, Any], appendfsync: str
) -> Iterator[tuple[str, str]]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            EVICTION,
            f"Redis evicts keys (maxmemory-policy {policy}): "
            "set maxmemory-policy noeviction, or counts are lost when memory is short",
        )
    if not info.get("aof_enabled", 1):
        yield (
            APPEND_ONLY,
            "Redis keeps no append-only file, so a restart would lose events: "
            "set appendonly yes and appendfsync always",
        )
    if info.get("role") == "slave":
        yield (
            ROLE,
            "Redis is a replica, which takes no writes of ours: give the address of its primary",
        )
    fsync = config.get("appendfsync", appendfsync)
    if appendfsync == "always" and fsync != "always":
        yield (
            SYNC,
            f"Redis has appendfsync {fsync}, so a power cut may lose two seconds: "
            "set appendfsync always in Redis, "
            "or accept the loss with ANALYTICS_APPENDFSYNC=everysec",
        )
    elif fsync not in ("always", "everysec"):
        yield (
            SYNC,
            f"Redis has appendfsync {fsync}, so a power cut may lose half a minute: "
            "set appendfsync everysec or always in Redis",
        )
    elif appendfsync == "always" and config.get("no-appendfsync-on-rewrite") == "yes":
        yield (
            SYNC,
            "Redis has no-appendfsync-on-rewrite yes, so a power cut during a rewrite may "
            "lose half a minute: set no-appendfsync-on-rewrite no, "
            "or accept the loss with ANALYTICS_APPENDFSYNC=everysec",
        )


def _find_unknown(info: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "aof_enabled" not in info:
        yield APPEND_ONLY, "whether it keeps an append-only file (INFO persistence)"
    if "maxmemory_policy" not in info:
        yield EVICTION, "whether it evicts keys (INFO memory)"
    if "appendfsync" not in config:
        yield SYNC, "how it syncs its append-only file (CONFIG GET appendfsync)"
