"""Correcting a dead letter, so that it can be replayed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, update

from pipeline.errors import CannotReplay
from pipeline.postgres.tables import dead_letters
from pipeline.upkeep.dead_letters import DeadLetter
from pipeline.upkeep.replaying import read_event

_IDENTITY = ("event_type", "event_id", "source")
"""What an event is known by: it is counted once under these."""


def read_fields(letter: DeadLetter) -> dict[str, Any]:
    """The fields of a letter, none where its body is no JSON object. Raises `CannotReplay` where it
    cannot be edited."""
    if letter.kind != "event":
        raise CannotReplay(
            f"dead letter {letter.id} is a {letter.kind}, not an event, and cannot be edited: drop "
            "it, or send the event that was meant with `analytics track`"
        )
    if letter.replayed_at is not None:
        raise CannotReplay(
            f"dead letter {letter.id} was replayed at {letter.replayed_at:%Y-%m-%d %H:%M:%S} UTC: "
            "what was sent cannot be edited"
        )
    try:
        fields = json.loads(letter.body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def save_fields(
    engine: Engine, letter: DeadLetter, fields: Mapping[str, Any], user_id_secret: str
) -> DeadLetter:
    """Put these fields in the place of the letter's body, and return the letter as it is then. May
    be repeated.

    Raises `CannotReplay`, with nothing changed, where they are no valid event, where the letter
    was changed or replayed meanwhile, and where a letter that is a valid event would become another
    one: a replay that was cut off may have sent it, and then both would count.
    """
    read_fields(letter)
    edited = replace(letter, body=json.dumps(fields, ensure_ascii=False).encode())
    event = read_event(edited, user_id_secret)
    try:
        before = read_event(letter, user_id_secret)
    except CannotReplay:
        before = None  # so it was never sent
    if before is not None:
        for name in _IDENTITY:
            if getattr(before, name) != getattr(event, name):
                raise CannotReplay(
                    f"dead letter {letter.id} is a valid event, and may have been sent: its {name} "
                    f"cannot become {getattr(event, name)!r}. Replay it as it is, or drop it and "
                    "send another with `analytics track`"
                )
    change = (
        update(dead_letters)
        .where(dead_letters.c.id == letter.id, dead_letters.c.body == letter.body)
        .where(dead_letters.c.replayed_at.is_(None))
        .values(body=edited.body)
    )
    with engine.begin() as connection:
        if connection.execute(change).rowcount:
            return edited
    raise CannotReplay(
        f"dead letter {letter.id} was changed, replayed or dropped meanwhile: see "
        "`analytics dead-letters list`"
    )
