"""The page of the Postgres tables: every column of each."""

from __future__ import annotations

from sqlalchemy import Column, Table

from pipeline.postgres.fitness import VERSION_TABLE, metadata
from pipeline.postgres.tables import DIALECT
from tests.reference.markdown import code, page, table

MEANINGS = {
    "analytics_annotations": "Notes at a moment, which charts of the dashboard show.",
    "analytics_anonymous_daily": "Numbers of erased users who were seen on a day.",
    "analytics_daily": "Events of a type by day (UTC).",
    "analytics_day_events": "Events of a sealed day by user, packed for funnels.",
    "analytics_day_users": "Users of a sealed day, by event type.",
    "analytics_dimension_daily": "Events by the value of a counted property, by day.",
    "analytics_distributions": "Numbers of a property by size, by day: percentiles, histograms.",
    "analytics_event_properties": "Properties that archived events of a type had.",
    "analytics_event_types": "Event types that were archived.",
    "analytics_hourly": "Events of a type by hour (UTC), counted before quarter hours were.",
    "analytics_past_users": "Users of all days before a month, by event type.",
    "analytics_quarter_hourly": "Events of a type by quarter hour (UTC).",
    "analytics_reports": "Reports: long questions, and their answers.",
    "analytics_saved_views": "Names for addresses of the dashboard.",
    "analytics_seals": "Days whose users or events are sealed.",
    "analytics_sums": "Sums of the numbers of a property, by quarter hour.",
    "analytics_user_daily": "Events of a user by type and day.",
    "analytics_user_numbers": "The number of each user in `analytics_day_users`.",
    "analytics_value_sums": "Sums of the numbers of a property by the value of another, by day.",
    "archived_entries": "The ledger of the archive: entries of the event log that are stored.",
    "dead_letters": "What could not be counted, as it came, with the reason.",
    "event_log_gaps": "Events that were counted but not logged, by type and hour.",
    "events": "The archive of raw events.",
    "flush_batches": "The ledger of flushes: batches of counters that are stored.",
    "pruned": "How far each partitioned table is pruned.",
}
"""Table -> what it holds."""


def make() -> str:
    """The page."""
    found = sorted(metadata.tables.values(), key=lambda one: one.name)
    return page(
        "Postgres tables",
        "All tables are in the schema of `ANALYTICS_POSTGRES_SCHEMA`, else where the `search_path` "
        "of the user leads. `analytics migrate` makes them and enters their version in "
        f"`{VERSION_TABLE}`. SQL on them does not see what waits in Redis: exact counts come from "
        "`analytics stats`, the stats API or `Stats`.",
        *(_describe(one) for one in found),
    )


def _describe(one: Table) -> str:
    rows = [_row(column) for column in one.columns]
    head = ("column", "type", "key", "null", "note")
    by = one.dialect_options["postgresql"]["partition_by"]
    partitioned = f" Partitioned by `{by}`." if by else ""
    return f"## {one.name}\n\n{MEANINGS[one.name]}{partitioned}\n\n{table(head, rows)}"


def _row(column: Column[object]) -> tuple[str, str, str, str, str]:
    return (
        code(column.name),
        column.type.compile(DIALECT).lower(),
        "primary" if column.primary_key else "",
        "yes" if column.nullable else "",
        column.comment or "",
    )
