"""Seals: what was made of the rows of a closed day is right while the day's seal stands.

A sealing takes these steps, and holds up no transfer but for the moment of the second:

1. It enters a seal with a token of its own, and commits.
2. It waits for the transfers under way. One that began before 1 may not have seen the seal, and is
   over now. One that begins later sees it.
3. In one transaction it reads the rows, writes what it makes of them, and last sets `sealed_at`,
   where its token still stands. If it does not, the transaction is rolled back.

What changes rows of a closed day deletes the day's seal in the same transaction. A change that is
committed before 3 reads is read; one that is committed after it has deleted the seal, so that 3
does not find its token: for either waits at the row for the other. Readers see in one snapshot the
seal, what was made, and the rows. A sealing that dies leaves a seal that is not set; the next one
takes it over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Literal
from uuid import uuid4

from sqlalchemy import Connection, Engine, TextClause, text

from pipeline.postgres.locks import hold_transfers
from pipeline.traces.spans import ROWS, span

Kind = Literal["users", "past", "events"]
"""What is sealed: the users of a day, all who were seen before a day, or a day's raw events."""

Write = Callable[[Connection, date], None]

_ENTER = text(
    "INSERT INTO schema$.analytics_seals AS seal (kind, date, token) "
    "SELECT :kind, day, :token FROM unnest(CAST(:days AS DATE[])) AS day ORDER BY day "
    "ON CONFLICT (kind, date) DO UPDATE SET token = excluded.token "
    "WHERE seal.sealed_at IS NULL RETURNING date"
)
_SET = text(
    "UPDATE schema$.analytics_seals SET sealed_at = clock_timestamp() "
    "WHERE kind = :kind AND date = :day AND token = :token"
)
_READ = text(
    "SELECT date FROM schema$.analytics_seals WHERE kind = :kind AND sealed_at IS NOT NULL "
    "AND date BETWEEN :first AND :last"
)
_CHANGED = (
    "(kind = :kind AND date = ANY(CAST(:days AS DATE[]))) "
    "OR (kind = 'past' AND :kind = 'users' AND date > CAST(:first AS DATE))"
)
_PRUNED = "kind IN ('past', 'users') AND date < :before"


def _delete(which: str) -> tuple[TextClause, TextClause]:
    """Statements that lock these seals, in one order, so that of two transactions with several
    neither waits for the other for ever, and that delete them."""
    found = f"FROM schema$.analytics_seals WHERE {which}"
    return text(f"SELECT 1 {found} ORDER BY kind, date FOR UPDATE"), text(f"DELETE {found}")


_DELETE_CHANGED = _delete(_CHANGED)
_DELETE_PRUNED = _delete(_PRUNED)


def seal(
    engine: Engine,
    kind: Kind,
    days: Sequence[date],
    write: Write,
    is_over: Callable[[], bool] = lambda: False,
) -> list[date]:
    """Seal these closed days, each in a transaction of its own, in their order; returns those that
    were. `write` makes of a day's rows what is sealed; what it raises ends the sealing.

    Days that are sealed already are left out, and so are those that change meanwhile: seal them
    again. Stops before a day once `is_over`. May be repeated and raced.
    """
    token = uuid4()
    with engine.begin() as connection:
        wanted = {"kind": kind, "token": token, "days": list(days)}
        entered = set(connection.execute(_ENTER, wanted).scalars()) if days else set()
    if not entered:
        return []
    wait_for_transfers(engine)
    sealed: list[date] = []
    with span(f"seal {kind}") as noted:
        for day in filter(entered.__contains__, days):
            if is_over():
                break
            with engine.connect() as connection:
                write(connection, day)
                if connection.execute(_SET, {"kind": kind, "day": day, "token": token}).rowcount:
                    connection.commit()
                    sealed.append(day)
        noted[ROWS] = len(sealed)
    return sealed


def wait_for_transfers(engine: Engine) -> None:
    """Wait until the transfers that are under way have ended."""
    with hold_transfers(engine):
        pass


def unseal(connection: Connection, kind: Kind, days: Iterable[date | str]) -> None:
    """Delete the seals of these days, because this transaction changes their rows; with those of
    the users of a day also the seals of all who were seen before a later one."""
    changed: Sequence[str] = sorted(map(str, days))
    if changed:
        values = {"kind": kind, "days": list(changed), "first": changed[0]}
        for statement in _DELETE_CHANGED:
            connection.execute(statement, values)


def drop_seals_of_users(connection: Connection, before: date) -> None:
    """Delete the seals of users of all earlier days, whose rows are gone."""
    for statement in _DELETE_PRUNED:
        connection.execute(statement, {"before": before})


def read_sealed(
    connection: Connection, kind: Kind, first: date = date.min, last: date = date.max
) -> set[date]:
    """Which days from `first` to `last` are sealed."""
    wanted = {"kind": kind, "first": first, "last": last}
    return set(connection.execute(_READ, wanted).scalars())
