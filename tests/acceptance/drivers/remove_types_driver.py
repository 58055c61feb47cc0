"""Removes event types and is killed at a named point: run by `test_types_removed_killed.py`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from config.options import pipeline_options
from config.settings import Settings
from pipeline.services import connect
from pipeline.upkeep.event_types import removal
from pipeline.upkeep.event_types.removal import TypeRemover
from tests.acceptance.drivers.forget_driver import after, die

POINTS = (
    "before the mark",
    "after the mark",
    "after the first counters are folded",
    "after all counters are folded",
    "before the commit",
)


def main() -> None:
    """`remove_types_driver.py POINT REDIS_URL POSTGRES_URL TYPE…`."""
    point, redis_url, postgres_url, *types = sys.argv[1:]
    services = connect(
        pipeline_options(Settings(count_by={"page_view": ["path"]})), redis_url, postgres_url
    )
    remover: Any = TypeRemover
    if point == "before the mark":
        remover._mark = lambda *_, **__: die()
    elif point == "after the mark":
        remover._mark = after(remover._mark)
    elif point == "after the first counters are folded":
        removal._AT_ONCE = 3
        removal._fold_some = after(removal._fold_some)
    elif point == "after all counters are folded":
        remover._fold_redis = after(remover._fold_redis)
    elif point == "before the commit":
        removal.fold_books = after(removal.fold_books)
    parts = services.counters, services.event_log, services.archive
    TypeRemover(*parts).remove(types, datetime.now(UTC).date())  # with nothing flushed before


if __name__ == "__main__":
    main()
