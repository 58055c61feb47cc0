"""What keeps installations on one server apart: every name that a prefix stands in.

An installation is what shares one `ANALYTICS_PREFIX`: its Redis keys, its queues, and the exchanges
over which its workers, beat and Flower talk to each other. No name of one installation is a name of
another. Those of the default prefix carry none, as they did before there were others.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.contract import EVENTS_QUEUE, FLUSH_QUEUE, MAINTENANCE_QUEUE

DEFAULT_PREFIX = "analytics:"
MAX_PREFIX_CHARACTERS = 64
_PREFIX = re.compile(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)*:")


class Queues(NamedTuple):
    """The queues of an installation, on Redis and on RabbitMQ."""

    events: str
    flush: str
    maintenance: str


def check_prefix(prefix: str) -> str:
    """Returns the prefix. Raises ValueError when it cannot be one."""
    # Braces would choose a cluster slot, percent and colon would confuse the key parser, and
    # *, ? and [ are patterns to the repair's SCAN.
    if len(prefix) > MAX_PREFIX_CHARACTERS:
        raise ValueError(f"must have at most {MAX_PREFIX_CHARACTERS} characters")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            "must end with ':' and consist of letters, digits, '_', '.', '-' and ':', "
            f"such as {DEFAULT_PREFIX!r}"
        )
    return prefix


def queues_of(prefix: str) -> Queues:
    """The queues of the installation with this prefix: `shop.events` and so on of `shop:`."""
    if prefix == DEFAULT_PREFIX:
        return Queues(EVENTS_QUEUE, FLUSH_QUEUE, MAINTENANCE_QUEUE)
    name = prefix.removesuffix(":")
    return Queues(f"{name}.events", f"{name}.flush", f"{name}.maintenance")


def exchanges_of(prefix: str) -> dict[str, str]:
    """Celery's options for what goes between its processes: control commands and task events.

    Another name for each installation, so that `celery inspect ping`, `celery control shutdown` and
    Flower reach its own workers only.
    """
    if prefix == DEFAULT_PREFIX:
        return {}
    name = prefix.removesuffix(":")
    # Celery puts `reply.` before the name and `.pidbox` behind it; beginning with `celery` none is
    # the reply exchange of another.
    return {
        "control_exchange": f"celery.{name}",
        "event_exchange": f"celeryev.{name}",
        "event_queue_prefix": f"celeryev.{name}",
    }


def outer_prefixes(prefix: str, key_kinds: frozenset[str]) -> list[str]:
    """The prefixes of installations whose keys this one's could be: `shop:` of `shop:user:`, since
    `user` is a kind of key."""
    parts = prefix.removesuffix(":").split(":")
    return [
        ":".join(parts[:place]) + ":" for place in range(1, len(parts)) if parts[place] in key_kinds
    ]
