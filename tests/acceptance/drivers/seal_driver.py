"""Seals the users of closed days and is killed at a named point: run as a process by
`test_sealing_killed.py`."""

from __future__ import annotations

import sys
from datetime import datetime

from sqlalchemy import Connection

from config.options import pipeline_options
from config.settings import Settings
from pipeline.postgres.sealing import seals
from pipeline.services import connect
from pipeline.upkeep.people import sealing
from tests.acceptance.drivers.forget_driver import after, die

POINTS = (
    "after the seals are entered",
    "after a day is written",
    "before a seal is set",
    "after a seal is set",
    "after a day is sealed",
    "after the past is written",
    "after all",
)


def install(point: str) -> None:
    """Have the sealing die at the point."""
    if point == "after the seals are entered":
        seals.wait_for_transfers = die  # type: ignore[assignment]
    elif point == "after a day is written":
        sealing._write_day = after(sealing._write_day)
    elif point in ("before a seal is set", "after a seal is set"):
        _die_at_seal(is_set=point.startswith("after"))
    elif point == "after a day is sealed":
        commit = Connection.commit
        Connection.commit = after(commit)  # type: ignore[method-assign]
    elif point == "after the past is written":
        sealing.write_past = after(sealing.write_past)


def _die_at_seal(*, is_set: bool) -> None:
    execute = Connection.execute

    def execute_or_die(self: Connection, statement: object, *args: object) -> object:
        if statement is not seals._SET:
            return execute(self, statement, *args)  # type: ignore[call-overload]
        if is_set:
            execute(self, statement, *args)  # type: ignore[call-overload]
        die()
        raise AssertionError

    Connection.execute = execute_or_die  # type: ignore[assignment, method-assign]


def main() -> None:
    """`seal_driver.py POINT NOW REDIS_URL POSTGRES_URL`."""
    point, now, redis_url, postgres_url = sys.argv[1:]
    services = connect(pipeline_options(Settings()), redis_url, postgres_url)
    install(point)
    services.seal_users(datetime.fromisoformat(now))
    die()


if __name__ == "__main__":
    main()
