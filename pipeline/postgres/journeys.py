"""The tables of journeys: the events of sealed days by user, and reports."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Date,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
)

from pipeline.postgres.tables import metadata

BUCKET_BITS = 16
"""Of a user's number: the users of one bucket are read together."""

day_events = Table(
    "analytics_day_events",
    metadata,
    Column("date", Date, primary_key=True),
    Column("event_type", Text, primary_key=True),
    Column("bucket", Integer, primary_key=True, comment="the users' numbers without 16 bits"),
    Column("count", Integer, nullable=False, comment="events, also of numbers and of times"),
    Column("numbers", LargeBinary, nullable=False, comment="of users, 4 bytes each, high first"),
    Column(
        "times",
        LargeBinary,
        nullable=False,
        comment="microseconds from 2000 on, 8 bytes each, high first",
    ),
)

reports = Table(
    "analytics_reports",
    metadata,
    Column("id", Uuid, primary_key=True, comment="digest of the question"),
    Column("question", Text, nullable=False, comment="JSON"),
    Column("state", Text, nullable=False, comment="waiting, running, done or failed"),
    Column("progress", Double, nullable=False, comment="from 0 to 1"),
    Column("result", Text, comment="JSON"),
    Column("reason", Text, comment="why it failed"),
    Column("as_of", DateTime(timezone=True), comment="the last archive run before it"),
    Column("asked_by", Text, nullable=False, comment="id of the read token, or empty"),
    Column("tries", Integer, nullable=False, comment="how many workers began to make it"),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Index("ix_analytics_reports_asked_at", "asked_at"),
)
