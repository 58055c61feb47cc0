"""The last place where plain user ids become pseudonyms: a worker, before it counts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pipeline.counting.batch import Delivery
from pipeline.event.model import Event
from pipeline.event.pseudonyms import complete_pseudonym


def replace_user_ids(secret: str, deliveries: Iterable[Delivery]) -> list[Delivery]:
    """The messages with pseudonyms in place of the plain user ids of their events.

    Bad events stay as they came: a dead letter is to show what was sent.
    """
    return [
        msgspec.structs.replace(
            delivery,
            events=[
                _replace_user_id(secret, one, delivery.plain_user_ids) for one in delivery.events
            ],
        )
        for delivery in deliveries
    ]


def _replace_user_id(secret: str, event: Event, is_plain: bool) -> Event:
    if event.user_id is None:
        return event
    stored = complete_pseudonym(secret, event.user_id, is_plain=is_plain)
    return event if stored == event.user_id else msgspec.structs.replace(event, user_id=stored)
