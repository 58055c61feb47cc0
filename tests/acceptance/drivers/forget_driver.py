"""Erases a user and is killed at a named point: run as a process by `test_forget_killed.py`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from config.options import pipeline_options
from config.settings import Settings
from pipeline.counting import erased_users
from pipeline.services import connect
from pipeline.upkeep import erase

POINTS = (
    "before the entry",
    "after the first entry",
    "before the days are entered",
    "after the days are entered",
    "before the counters are dropped",
    "after the counters are dropped",
    "before the letters are dropped",
    "before the commit",
)


def die(*_: Any) -> None:
    """As the kernel would have it."""
    os.kill(os.getpid(), signal.SIGKILL)


def after(work: Callable[..., Any]) -> Callable[..., Any]:
    """Do it, then die."""

    def done(*args: Any, **named: Any) -> None:
        work(*args, **named)
        die()

    return done


def main() -> None:
    """`forget_driver.py POINT USER REDIS_URL POSTGRES_URL`."""
    point, user_id, redis_url, postgres_url = sys.argv[1:]
    services = connect(
        pipeline_options(Settings(count_by={"page_view": ["path"]})), redis_url, postgres_url
    )
    if point == "before the entry":
        erased_users.enter = die
    elif point == "after the first entry":
        erased_users.enter = after(erased_users.enter)
    elif point == "before the days are entered":
        erase.enter_anonymous = die  # type: ignore[assignment]
    elif point == "after the days are entered":
        erase._erase = die  # type: ignore[assignment]
    elif point == "before the counters are dropped":
        erase._drop_counters = die  # type: ignore[assignment]
    elif point == "after the counters are dropped":
        erase._drop_counters = after(erase._drop_counters)
    elif point == "before the letters are dropped":
        erase._drop_letters = die  # type: ignore[assignment]
    elif point == "before the commit":
        erase._drop_letters = after(erase._drop_letters)
    services.erase_user(user_id)


if __name__ == "__main__":
    main()
