"""Retention: partitions older than the settings say are detached and dropped; totals are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from sqlalchemy import Connection, Engine, Table, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError

from pipeline.days import begin_month
from pipeline.postgres import partitions
from pipeline.postgres.partitions import FIRST_DAY
from pipeline.postgres.tables import dimension_daily, events, pruned, user_daily

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruned:
    """What was dropped: names of partitions; `busy` are those that are being read."""

    dropped: list[str]
    busy: list[str]


def prune(
    engine: Engine, today: date, events_days: int, counters_days: int, *, dry_run: bool = False
) -> Pruned:
    """Drop the partitions that ended more than so many days before today; 0 keeps all.

    Days before 2000, which share a partition, go with the first of them. May be repeated. A table
    that is being read for long is left for the next time.
    """
    kept = {events: events_days, user_daily: counters_days, dimension_daily: counters_days}
    found = Pruned([], [])
    for table, before in _ends(kept, today).items():
        if not dry_run:
            _note(engine, table, before)
        with engine.connect() as connection:
            old = [one for one in partitions.existing(connection, table) if one.end <= before]
        drops = [(one.name, partial(partitions.drop, engine, table, one)) for one in old]
        for name, drop in drops:
            if dry_run or _dropped(name, drop, found):
                found.dropped.append(name)
        if before > FIRST_DAY and not dry_run:
            drop = partial(partitions.drop_default, engine, table, before)
            _dropped(f"{table.name}_default", drop, found)
    if found.dropped and not dry_run:
        logger.info("dropped %d partitions: %s", len(found.dropped), ", ".join(found.dropped))
    return found


def read_pruned_before(connection: Connection, table: Table) -> date | None:
    """The day before which the table is not whole; None when nothing was ever dropped."""
    before = select(pruned.c.before).where(pruned.c.table_name == table.name)
    return connection.execute(before).scalar_one_or_none()


def _dropped(name: str, drop: Callable[[], None], found: Pruned) -> bool:
    """Drop the partition; returns whether no reader was in the way."""
    try:
        drop()
    except OperationalError as error:
        found.busy.append(name)
        logger.warning("%s is not dropped now, the next time: %s", name, error.orig)
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
