"""A copy of our keys in Redis, over the network: managed servers do not hand out their files.

Redis is held while it copies, up to 20 ms a MiB: that is what makes the copy one of a single
instant. It holds little after a flush and an archive run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import redis

from pipeline.contract import PRIORITY_SUFFIXES
from pipeline.errors import CannotBackUp, CannotRestore
from pipeline.installation import queues_of
from pipeline.redis.keys import KINDS, Keys
from pipeline.redis.scripts import Script
from pipeline.system.private_files import open_private

MOST_BYTES = 64 * 1024 * 1024
_RESTORED_AT_ONCE = 200
_COPY_KEYS = Script("pipeline.upkeep.backups.copy_keys")
_LEFT_OUT = {"beats", "workers", "lane", "limit", "flush_requested", "unacked_mutex"}
"""What is of the processes that ran then."""


class CopiedKey(msgspec.Struct, array_like=True):
    """A key: `expires_ms` is the end of its lifetime (Unix ms), -1 without one."""

    name: bytes
    expires_ms: int
    dumped: bytes


def copy_keys(client: redis.Redis, keys: Keys, most_bytes: int = MOST_BYTES) -> list[CopiedKey]:
    """All keys and queues of the installation at one instant.

    Raises `CannotBackUp` when they have more bytes, or this user may not copy, and
    redis.RedisError when Redis is away.
    """
    kinds = sorted(KINDS - _LEFT_OUT)
    names = [queue + suffix for queue in queues_of(keys.prefix) for suffix in PRIORITY_SUFFIXES]
    try:
        found: list[Any] = _COPY_KEYS.run(
            client, keys=[], args=[most_bytes, keys.prefix, len(kinds), *kinds, *names]
        )
    except redis.exceptions.NoPermissionError as error:
        raise CannotBackUp(
            f"this user of Redis may not copy keys ({error}): grant it +dump +scan +pexpiretime"
        ) from error
    if len(found) == 1:
        raise CannotBackUp(
            f"Redis holds more than {most_bytes / 2**20:,.0f} MiB of this installation, and would "
            "be held too long: see that events are flushed and archived (`analytics status`), "
            "raise --redis-mib, or use a copy of its own (docs/guides/operating/backup.md)"
        )
    triples = zip(found[::3], found[1::3], found[2::3], strict=True)
    return [CopiedKey(*one) for one in triples]


def write_copy(path: Path, copied: Sequence[CopiedKey]) -> None:
    """Write the copy to a new file that only its owner can read."""
    with open(open_private(path), "wb") as file:  # noqa: PTH123
        file.write(msgspec.msgpack.encode(copied))


def read_copy(path: Path) -> list[CopiedKey]:
    """What `write_copy` wrote. Raises `CannotRestore` where that is not what the file holds."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=list[CopiedKey])
    except msgspec.DecodeError as error:
        raise CannotRestore(f"{path} is damaged ({error}): use another backup") from error


def restore_keys(client: redis.Redis, keys: Keys, copied: Sequence[CopiedKey]) -> int:
    """Put the keys back, less those whose lifetime is over; returns how many there are then.

    Raises `CannotRestore` when there are keys of the installation already, or Redis refuses one,
    and redis.RedisError when it is away.
    """
    there = _find_any(client, keys)
    if there is not None:
        raise CannotRestore(
            f"Redis holds keys of this installation already ({there}): end its processes, and "
            "restore into an empty database"
        )
    for first in range(0, len(copied), _RESTORED_AT_ONCE):
        pipeline = client.pipeline(transaction=False)
        for one in copied[first : first + _RESTORED_AT_ONCE]:
            expires_ms = max(0, one.expires_ms)
            pipeline.restore(one.name, expires_ms, one.dumped, absttl=expires_ms > 0)
        try:
            pipeline.execute()
        except redis.exceptions.NoPermissionError as error:
            raise CannotRestore(
                f"this user of Redis may not restore keys ({error}): grant it +restore meanwhile"
            ) from error
        except redis.ResponseError as error:
            raise CannotRestore(
                f"Redis refuses a key ({error}): it must be of the version that was copied, or a "
                "later one. Delete what was restored (FLUSHDB) before the next try"
            ) from error
    names = [one.name for one in copied]
    parts = (names[i : i + 1_000] for i in range(0, len(names), 1_000))
    return sum(int(client.exists(*part)) for part in parts)


def _find_any(client: redis.Redis, keys: Keys) -> str | None:
    for name in client.scan_iter(f"{keys.prefix}*", count=1_000):
        text = name.decode(errors="replace")
        if text.removeprefix(keys.prefix).partition(":")[0] in KINDS - _LEFT_OUT:
            return str(text)
    return None
