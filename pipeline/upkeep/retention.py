"""Retention: partitions older than the settings say are detached and dropped, and old rows of the
default partition are deleted; totals are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial

from sqlalchemy import Connection, Engine, Table, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError

from pipeline.days import begin_month
from pipeline.errors import RowsHaveCome
from pipeline.postgres import partitions
from pipeline.postgres.sealing.events import prune_day_events
from pipeline.postgres.tables import dimension_daily, events, pruned, user_daily
from pipeline.upkeep.people import pruning as people

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruned:
    """What was dropped: names of partitions. `emptied` are default partitions of which the old rows
    were deleted, `busy` those that are being read, or into which old rows come."""

    dropped: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)


Done = Callable[[str, Callable[[], None]], bool]
"""Prunes a partition of this name by a call; returns whether that is done."""


def prune(
    engine: Engine, today: date, events_days: int, counters_days: int, *, dry_run: bool = False
) -> Pruned:
    """Drop the partitions that ended more than so many days before today, and delete rows as old
    from the default partitions; 0 keeps all.

    May be repeated. A table that is being read for long is left for the next time.
    """
    kept = {events: events_days, user_daily: counters_days, dimension_daily: counters_days}
    found = Pruned()
    for table, before in _ends(kept, today).items():
        if dry_run:
            _prune_table(engine, table, before, found, lambda _, __: True)
        elif table is user_daily:
            _prune_users(engine, before, found)
        else:
            _note(engine, table, before)
            _prune_table(engine, table, before, found, partial(_done, found))
            if table is events:
                prune_day_events(engine, before)
    if found.dropped and not dry_run:
        logger.info("dropped %d partitions: %s", len(found.dropped), ", ".join(found.dropped))
    if found.emptied and not dry_run:
        logger.info("deleted old rows of %s", ", ".join(found.emptied))
    return found


def _prune_users(engine: Engine, before: date, found: Pruned) -> None:
    """Prune the rows of users, with what is kept of those users."""
    month = people.note_past(engine, before)
    if month is None:
        found.busy.append(user_daily.name)
        logger.warning("%s is not pruned now: rows of old days come in", user_daily.name)
        return
    _note(engine, user_daily, before)
    check = partial(people.check_past, month=month)
    done = partial(_done, found)
    has_dropped = _prune_table(engine, user_daily, before, found, done, check)
    people.forget_pruned(engine, before, has_dropped=has_dropped)


def _prune_table(
    engine: Engine,
    table: Table,
    before: date,
    found: Pruned,
    done: Done,
    check: partitions.MayDrop | None = None,
) -> bool:
    """Drop and empty the old partitions of a table; returns whether any was."""
    with engine.connect() as connection:
        old = [one for one in partitions.existing(connection, table) if one.end <= before]
    dropped = [
        one.name
        for one in old
        if done(one.name, partial(partitions.drop, engine, table, one, check))
    ]
    found.dropped.extend(dropped)
    if partitions.holds_older(engine, table, before):
        name = f"{table.name}_default"
        if done(name, partial(partitions.prune_default, engine, table, before, check)):
            found.emptied.append(name)
            return True
    return bool(dropped)


def read_pruned_before(connection: Connection, table: Table) -> date | None:
    """The day before which the table is not whole; None when nothing was ever dropped."""
    before = select(pruned.c.before).where(pruned.c.table_name == table.name)
    return connection.execute(before).scalar_one_or_none()


def _done(found: Pruned, name: str, prune: Callable[[], None]) -> bool:
    """Prune the partition; returns whether nothing was in the way."""
    try:
        prune()
    except (OperationalError, RowsHaveCome) as error:
        found.busy.append(name)
        reason = error.orig if isinstance(error, OperationalError) else error
        logger.warning("%s is not pruned now, the next time: %s", name, reason)
        return False
    return True


def _ends(kept: Mapping[Table, int], today: date) -> dict[Table, date]:
    ends: dict[Table, date] = {}
    for table, days in kept.items():
        if days and days < today.toordinal():
            end = today - timedelta(days=days)
            # A month goes as a whole, when its last day is old enough.
            ends[table] = end if table is events else begin_month(end)
    return ends


def _note(engine: Engine, table: Table, before: date) -> None:
    """First, so that no audit takes what is about to go for a loss."""
    new = insert(pruned).values(table_name=table.name, before=before)
    noted = new.on_conflict_do_update(
        index_elements=[pruned.c.table_name],
        set_={"before": new.excluded.before},
        where=pruned.c.before < new.excluded.before,
    )
    with engine.begin() as connection:
        connection.execute(noted)
