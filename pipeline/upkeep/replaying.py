"""Sending a dead letter again, as the event that it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pipeline.errors import CannotReplay, InvalidEvent
from pipeline.event.model import Event
from pipeline.event.pseudonyms import pseudonymise_fields
from pipeline.event.rules import check_event_id
from pipeline.upkeep.dead_letters import DeadLetter

_SOURCE = "dead letters"
"""Of the ids that we give to what pages sent. No key may name it, so no page can use up such an id
before a replay does: a key's source has no space."""


def publish_again(letter: DeadLetter, user_id_secret: str) -> None:
    """Publish the event of a letter, under its own event id, else under one made of the letter's
    id: so that a repeat is counted once, within the deduplication window.

    `user_id_secret` is the HMAC secret for pseudonymising user ids; empty where there is none.
    Raises `CannotReplay` for what is still no valid event.
    """
    from pipeline.producer.celery_tasks import track_events

    found = read_event(letter, user_id_secret)
    try:
        track_events.delay([found])
    except InvalidEvent as error:
        raise _explain(letter, error) from error


def read_event(letter: DeadLetter, user_id_secret: str) -> Event:
    """The event that a replay of the letter sends. Raises `CannotReplay` where it is none."""
    if letter.kind != "event":
        raise CannotReplay(
            f"dead letter {letter.id} is a {letter.kind}, not an event, and cannot be sent again: "
            f"`analytics dead-letters drop {letter.id}` removes it"
        )
    try:
        fields = json.loads(letter.body)
        if isinstance(fields, dict):
            if not _has_event_id(fields):
                fields["event_id"] = f"dead-letter:{letter.id}"
                if fields.get("source"):
                    fields["source"] = _SOURCE
            if fields.get("timestamp") is None:
                # It belongs to the hour in which it came.
                fields["timestamp"] = letter.created_at.isoformat()
            fields = pseudonymise_fields(user_id_secret, fields)
        return Event.from_wire(fields, now=datetime.now(UTC))
    except (ValueError, InvalidEvent) as error:
        raise _explain(letter, error) from error


def _explain(letter: DeadLetter, error: Exception) -> CannotReplay:
    return CannotReplay(
        f"dead letter {letter.id} is still no valid event ({error}): correct it with "
        f"`analytics dead-letters edit {letter.id}`, or drop it"
    )


def _has_event_id(fields: dict[str, object]) -> bool:
    try:
        check_event_id(fields.get("event_id"))
    except InvalidEvent:
        return False
    return True
