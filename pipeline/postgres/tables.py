"""The Postgres tables, and beside the counter tables the upsert that adds to them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TextClause,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects import postgresql

metadata = MetaData()

_PARTS = "of a sum: count, not_numbers, or e and a power of ten"

FILL_FACTOR = 50
"""Percent of a page of a counter table that inserts may fill. The rest is room for the updates of
the flushes that follow: a row that is updated in its page costs Postgres 2.6 µs, else 8.3."""


def _updated_at() -> Column[object]:
    return Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now())


daily = Table(
    "analytics_daily",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("date", Date, primary_key=True),
    Column("count", BigInteger, nullable=False),
    _updated_at(),
)

hourly = Table(
    "analytics_hourly",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("count", BigInteger, nullable=False),
    _updated_at(),
)

quarter_hourly = Table(
    "analytics_quarter_hourly",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("quarter", DateTime(timezone=True), primary_key=True),
    Column("count", BigInteger, nullable=False),
    _updated_at(),
)

user_daily = Table(
    "analytics_user_daily",
    metadata,
    Column("date", Date, primary_key=True),
    Column("event_type", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    _updated_at(),
    Index("ix_analytics_user_daily_user_id", "user_id"),
    postgresql_partition_by="RANGE (date)",
)

dimension_daily = Table(
    "analytics_dimension_daily",
    metadata,
    Column("date", Date, primary_key=True),
    Column("event_type", Text, primary_key=True),
    Column("property", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    _updated_at(),
    postgresql_partition_by="RANGE (date)",
)

sums = Table(
    "analytics_sums",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("property", Text, primary_key=True),
    Column("quarter", DateTime(timezone=True), primary_key=True),
    Column("part", Text, primary_key=True, comment=_PARTS),
    Column("count", BigInteger, nullable=False),
    _updated_at(),
)

value_sums = Table(
    "analytics_value_sums",
    metadata,
    Column("date", Date, primary_key=True),
    Column("event_type", Text, primary_key=True),
    Column("property", Text, primary_key=True),
    Column("by_property", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("part", Text, primary_key=True, comment=_PARTS),
    Column("count", BigInteger, nullable=False),
    _updated_at(),
    postgresql_partition_by="RANGE (date)",
)

distributions = Table(
    "analytics_distributions",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("property", Text, primary_key=True),
    Column("date", Date, primary_key=True),
    Column("bin", Integer, primary_key=True, comment="see pipeline/event/scale.py"),
    Column("count", BigInteger, nullable=False),
    _updated_at(),
)

flush_batches = Table(
    "flush_batches",
    metadata,
    Column("batch_id", Text, primary_key=True, comment="the ledger: what is here is stored"),
    Column("epoch", Integer, nullable=False),
    Column("claim", BigInteger, nullable=False, comment="Redis's number of the claim"),
    Column("rows", Integer, nullable=False),
    Column("stored_at", DateTime(timezone=True), nullable=False),
    # Without a default: a flush of the version before, which would lose a part of a batch of ours,
    # can enter none.
    Column("form", Integer, nullable=False, comment="of the batch: 2 has measures"),
    Index("ix_flush_batches_epoch_claim", "epoch", "claim", unique=True),
    Index("ix_flush_batches_stored_at", "stored_at"),
)

event_log_gaps = Table(
    "event_log_gaps",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("reason", Text, primary_key=True, comment="off or full"),
    Column("hour", DateTime(timezone=True), primary_key=True, comment="of the events"),
    Column("count", BigInteger, nullable=False, comment="events counted and not logged"),
    Column(
        "noted_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
        comment="when the first of them were stored",
    ),
    _updated_at(),
)

events = Table(
    "events",
    metadata,
    Column("event_type", Text, nullable=False),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("user_id", Text),
    Column("properties", JSON, comment="the text as it came: no number or escape is refused"),
    Column("event_id", Text),
    Index("ix_events_timestamp", "timestamp"),
    Index("ix_events_event_type", "event_type", "timestamp"),
    Index(
        "ix_events_user_id", "user_id", "timestamp", postgresql_where=text("user_id IS NOT NULL")
    ),
    postgresql_partition_by="RANGE (timestamp)",
)

archived_entries = Table(
    "archived_entries",
    metadata,
    Column("name", Uuid, primary_key=True, comment="the ledger: what is here is archived"),
    Column("partition", Integer, nullable=False),
    Column("entry_id", Text, nullable=False, comment="its id in the stream"),
    Column("events", Integer, nullable=False),
    Column("archived_at", DateTime(timezone=True), nullable=False),
    # Without a default, as that of flush_batches: what an archive worker of the version before
    # stored would be missing in the catalogue, and in days that are packed.
    Column("form", Integer, nullable=False, comment="2: entered in the catalogue"),
    Index("ix_archived_entries_archived_at", "archived_at"),
)

event_types = Table(
    "analytics_event_types",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("events", BigInteger, nullable=False, comment="archived, also those pruned by now"),
    Column("last", DateTime(timezone=True), nullable=False, comment="the newest event's time"),
    Column("since", DateTime(timezone=True), comment="earlier ones are left out; NULL: none is"),
)

event_properties = Table(
    "analytics_event_properties",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("property", Text, primary_key=True),
    Column("events", BigInteger, nullable=False, comment="archived ones that had it"),
    Column("last", DateTime(timezone=True), nullable=False, comment="the newest event's time"),
)

pruned = Table(
    "pruned",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("before", Date, nullable=False, comment="all earlier days have been dropped"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False, comment="event, message, counter or entry"),
    Column("body", LargeBinary, nullable=False, comment="as it came"),
    Column("reason", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("replayed_at", DateTime(timezone=True)),
)

COUNTER_TABLES = (
    *(daily, hourly, quarter_hourly, event_log_gaps, sums, distributions),
    *(user_daily, dimension_daily, value_sums),
)
"""In the order in which every flush adds to them, so that two wait for each other at most."""
PARTITIONED_BY_MONTH = (user_daily, dimension_daily, value_sums)
PARTITIONED_BY_DAY = (events,)


DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def key_columns(table: Table) -> list[str]:
    """The names of the primary key's columns, in their order."""
    return [column.name for column in table.primary_key]


BETWEEN_GROUPS, BETWEEN_ROWS = "between_groups", "between_rows"
"""Parameters of `additive_upsert`: what separates the groups, and the rows of one."""


def additive_upsert(table: Table) -> TextClause:
    """Add to the counts of many rows at once, no key twice, in groups of rows that have all of the
    key in common but its last column. A parameter for each column of the key and for `count`: one
    text, of the groups; in that of the last column, and of the counts, a group is a text of its
    rows.

    Measured against one text a column (a new row took a tenth longer), arrays (half longer), and
    COPY into a temporary table, which Postgres then has to sort (a quarter longer).
    """
    names = ", ".join([*key_columns(table), "count"])
    if table is quarter_hourly:
        return text(_UPSERT_QUARTERS.format(rows=_rows_from_text(table)))
    return text(
        f"INSERT INTO schema$.{table.name} ({names}) {_rows_from_text(table)} "
        f"{_on_conflict_add(table)}"
    )


_UPSERT_QUARTERS = (
    "WITH of_batch (event_type, quarter, count) AS ({rows}), of_hours AS ("
    "INSERT INTO schema$.analytics_hourly (event_type, hour, count) "
    "SELECT event_type, date_trunc('hour', quarter, 'UTC'), CAST(sum(count) AS BIGINT) "
    'FROM of_batch GROUP BY 1, 2 ORDER BY event_type COLLATE "C", 2 ON CONFLICT (event_type, hour) '
    "DO UPDATE SET count = analytics_hourly.count + excluded.count, updated_at = now()) "
    "INSERT INTO schema$.analytics_quarter_hourly (event_type, quarter, count) "
    "SELECT * FROM of_batch ON CONFLICT (event_type, quarter) "
    "DO UPDATE SET count = analytics_quarter_hourly.count + excluded.count, updated_at = now()"
)
"""Adds to the hours, too, that the quarter hours are parts of."""

MAY_STAGE = text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
"""Whether this user may make temporary tables."""


class Staging:
    """A temporary table for rows of a counter table that are too many to be sorted elsewhere, and
    the statements that fill it and empty it into the counter table.

    A row that was inserted twice counts once. Rows are in the order of their keys, as those of
    `additive_upsert` should be. `read` returns all columns as text.
    """

    def __init__(self, table: Table) -> None:
        name, keys = f"staged_{table.name}", key_columns(table)
        columns = ", ".join([*keys, "count"])
        order = ", ".join(
            f'{key} COLLATE "C"' if isinstance(table.c[key].type, Text) else key for key in keys
        )
        rows = f"SELECT DISTINCT ON ({order}) {{}} FROM pg_temp.{name} ORDER BY {order}"
        as_text = ", ".join(f"CAST({column} AS TEXT)" for column in [*keys, "count"])
        self.create = text(
            f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP "
            f"AS SELECT {columns} FROM schema$.{table.name} WITH NO DATA"
        )
        self.insert = text(f"INSERT INTO pg_temp.{name} {_rows_from_text(table)}")
        self.sort_in_memory = text("SET LOCAL work_mem = '64MB'")
        self.upsert = text(
            f"INSERT INTO schema$.{table.name} ({columns}) {rows.format(columns)} "
            f"{_on_conflict_add(table)}"
        )
        self.read = text(rows.format(as_text))


def _rows_from_text(table: Table) -> str:
    """A SELECT of the rows that the parameters hold. Postgres walks through both arrays of a group
    in step, without writing them down as it does for a function in FROM."""
    types = {name: table.c[name].type.compile(DIALECT) for name in key_columns(table)}
    *heads, last = types
    of_groups = [_split(f"CAST(:{name} AS TEXT)", BETWEEN_GROUPS) for name in [*types, "count"]]
    columns = [f"CAST({name} AS {types[name]})" for name in heads]
    rows = [
        f"unnest(CAST({_split(name, BETWEEN_ROWS)} AS {kind}[]))"
        for name, kind in ((last, types[last]), ("count", "BIGINT"))
    ]
    names = ", ".join([*types, "count"])
    return (
        f"SELECT {', '.join(columns + rows)} "
        f"FROM unnest({', '.join(of_groups)}) AS of_group ({names})"
    )


def _split(text: str, separator: str) -> str:
    """An array of the parts of a text; of an empty one string_to_array makes no part."""
    parts = f"string_to_array({text}, CAST(:{separator} AS TEXT))"
    return f"CASE WHEN {text} = '' THEN ARRAY[''] ELSE {parts} END"


def _on_conflict_add(table: Table) -> str:
    return (
        f"ON CONFLICT ({', '.join(key_columns(table))}) DO UPDATE "
        f"SET count = {table.name}.count + excluded.count, updated_at = now()"
    )


ENTER_BATCH = text(
    "INSERT INTO schema$.flush_batches (batch_id, epoch, claim, rows, stored_at, form) "
    "VALUES (:batch_id, :epoch, :claim, :rows, clock_timestamp(), 2) ON CONFLICT DO NOTHING"
)

INSERT_DEAD_COUNTERS = text(
    "INSERT INTO schema$.dead_letters (id, kind, body, reason, created_at) "
    "SELECT gen_random_uuid()::text, 'counter', b, r, clock_timestamp() "
    "FROM unnest(CAST(:bodies AS BYTEA[]), CAST(:reasons AS TEXT[])) AS letter (b, r)"
)
