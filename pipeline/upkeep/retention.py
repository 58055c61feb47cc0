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
from pipeline.postgres import partitions
from pipeline.postgres.sealing.events import prune_day_events
from pipeline.postgres.tables import dimension_daily, events, pruned, user_daily

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruned:
    """What was dropped: names of partitions. `emptied` are default partitions of which the old rows
    were deleted, `busy` those that are being read."""

    dropped: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)


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
        if not dry_run:
            _note(engine, table, before)
        with engine.connect() as connection:
            old = [one for one in partitions.existing(connection, table) if one.end <= before]
        for one in old:
            drop = partial(partitions.drop, engine, table, one)
            if dry_run or _done(one.name, drop, found):
                found.dropped.append(one.name)
        if table is events and not dry_run:
            prune_day_events(engine, before)
        if partitions.holds_older(engine, table, before):
            name = f"{table.name}_default"
            empty = partial(partitions.prune_default, engine, table, before)
            if dry_run or _done(name, empty, found):
                found.emptied.append(name)
    if found.dropped and not dry_run:
        logger.info("dropped %d partitions: %s", len(found.dropped), ", ".join(found.dropped))
    if found.emptied and not dry_run:
        logger.info("deleted old rows of %s", ", ".join(found.emptied))
    return found


def read_pruned_before(connection: Connection, table: Table) -> date | None:
    """The day before which the table is not whole; None when nothing was ever dropped."""
    before = select(pruned.c.before).where(pruned.c.table_name == table.name)
    return connection.execute(before).scalar_one_or_none()


def _done(name: str, prune: Callable[[], None], found: Pruned) -> bool:
    """Prune the partition; returns whether no reader was in the way."""
    try:
        prune()
    except OperationalError as error:
        found.busy.append(name)
        logger.warning("%s is not pruned now, the next time: %s", name, error.orig)
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
