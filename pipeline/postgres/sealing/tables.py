"""The tables of users: their numbers, which of them were seen on a sealed day, and the seals."""

from __future__ import annotations

from sqlalchemy import Column, Date, DateTime, Identity, Integer, LargeBinary, Table, Text, Uuid

from pipeline.postgres.tables import metadata

ANY_TYPE = ""
"""Stands for all event types together; no type has this name."""


def _users(comment: str) -> Column[bytes]:
    return Column("users", LargeBinary, nullable=False, comment=comment)


seals = Table(
    "analytics_seals",
    metadata,
    Column("kind", Text, primary_key=True, comment="users, past or events"),
    Column("date", Date, primary_key=True),
    Column("token", Uuid, nullable=False, comment="of the sealing that may set sealed_at"),
    Column("sealed_at", DateTime(timezone=True), comment="NULL while the sealing is under way"),
)

user_numbers = Table(
    "analytics_user_numbers",
    metadata,
    Column("number", Integer, Identity(), primary_key=True),
    Column("user_id", Text, nullable=False, unique=True),
)

anonymous_daily = Table(
    "analytics_anonymous_daily",
    metadata,
    Column("date", Date, primary_key=True),
    Column("event_type", Text, primary_key=True),
    Column("number", Integer, primary_key=True, comment="of a person who was erased"),
)

day_users = Table(
    "analytics_day_users",
    metadata,
    Column("date", Date, primary_key=True),
    Column("event_type", Text, primary_key=True, comment="empty: any type"),
    _users("numbers of those seen on the day, a roaring bitmap"),
    Column("count", Integer, nullable=False, comment="how many"),
)

past_users = Table(
    "analytics_past_users",
    metadata,
    Column("month", Date, primary_key=True),
    Column("event_type", Text, primary_key=True, comment="empty: any type"),
    _users("numbers of those seen before the month, a roaring bitmap"),
)
