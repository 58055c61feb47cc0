"""Counters that are not pending although they are live: what no flush would find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import redis

from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_REPAIR = Script("pipeline.upkeep.repair")
_SCANNED_AT_ONCE = 1_000


def repair_counters(client: redis.Redis, keys: Keys) -> int:
    """Make counters pending again whose names are not; returns how many, normally 0. May be
    repeated."""
    repaired = 0
    for kind in ("counter", "user", "dim", "gap"):
        names: list[bytes] = []
        for name in client.scan_iter(f"{keys.prefix}{kind}:*", count=_SCANNED_AT_ONCE):
            names.append(cast("bytes", name))
            if len(names) == _SCANNED_AT_ONCE:
                repaired += _repair(client, keys, names)
                names = []
        repaired += _repair(client, keys, names)
    return repaired


def _repair(client: redis.Redis, keys: Keys, names: Sequence[bytes]) -> int:
    if not names:
        return 0
    return cast("int", _REPAIR.run(client, keys=[keys.pending_flush, keys.totals], args=names))
