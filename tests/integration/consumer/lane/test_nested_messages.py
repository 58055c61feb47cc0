"""Messages nested as deep as a parser goes, and deeper, end no worker."""

from __future__ import annotations

from uuid import uuid4

import redis

from pipeline.services import Services
from pipeline.upkeep import dead_letters
from tests.helpers.support import Workers, counted_here, eventually
from tests.integration.consumer.lane.support import raw_message

EVENTS = "analytics.events"
PARSERS_LIMIT = 1_000


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def message(depth: int, depth_of_headers: int = 1) -> str:
    """An event whose properties are nested so deep, in a message whose headers are."""
    body = f'[["page_view"], {{"properties": {{"x": {nested(depth)}}}}}, {{}}]'
    text = raw_message(body, task="analytics.track_event", id=uuid4().hex, x="headers")
    return text.replace('"headers"}', nested(depth_of_headers) + "}")


def test_messages_nested_as_deep_as_python_goes_are_dead_letters_and_the_others_counted(
    client: redis.Redis, services: Services, workers: Workers
) -> None:
    # Just below the parsers' limit is what can be read, and is too deep to be written again.
    bad = [message(depth) for depth in range(PARSERS_LIMIT - 20, PARSERS_LIMIT)]
    unreadable = [message(100_000), message(1, PARSERS_LIMIT), message(1, 100_000)]
    worker = workers.start("events")

    client.lpush(EVENTS, message(1), *bad, *unreadable, message(50))

    eventually(lambda: counted_here(client) == {"page_view": 2})
    eventually(lambda: not client.exists(EVENTS, services.keys.unacked))
    assert worker.alive()
    services.move_dead_letters()
    letters = dead_letters.list_stored(services.engine)
    assert len(letters) == len(bad) + len(unreadable)
    whole = {letter.body.decode() for letter in letters if letter.kind == "message"}
    assert set(unreadable) < whole <= {*bad, *unreadable}
    assert services.status()["books"]["balanced"]
