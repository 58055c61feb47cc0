"""The cap on event types: which are counted under their own names on a day, the rest as one.

Redis holds a set of the types admitted to each day. Days before yesterday share one set for each
day on which their events arrive, so that events of many old days make no sets without end. Types
named in the settings need no place. A worker remembers for a minute what it was answered: a usual
batch asks nothing, and what Redis lost, or what a raised cap allows, is noticed soon.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Container
from datetime import date, datetime, timedelta
from typing import cast

import msgspec
import redis

from pipeline.counting.increments import OTHER
from pipeline.days import UTC, hour_text
from pipeline.event.model import Event
from pipeline.options import CounterOptions
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_ADMIT = Script("pipeline.counting.admit")
_REMEMBERED = timedelta(seconds=60)
_MOST_REMEMBERED = 50_000
_LIFETIME = timedelta(days=2)

TYPE_UNKNOWN = "__unknown__"
"""In the books: the type of a bad event that names none."""
ORIGINAL = "__event_type__"
"""The property under which the event log keeps the type of an event that is counted as `OTHER`."""
NOT_COUNTED = ""
"""In place of an hour: an event that is in the books only, as of the day on which it arrives."""

Seen = tuple[str, str]
"""An event type, and an hour (`YYYY-MM-DD:HH`) of its events or `NOT_COUNTED`."""

logger = logging.getLogger(__name__)


class EventTypes:
    """What one worker knows of the types that are admitted. Threads may share it."""

    def __init__(self, keys: Keys, options: CounterOptions) -> None:
        self._keys, self._options = keys, options
        self._removed: frozenset[str] = frozenset()
        self.known: set[Seen] = set()
        """Admitted, and not to be asked for until `known_until`."""
        self.known_until = datetime.min.replace(tzinfo=UTC)
        self._answers: dict[tuple[str, str], bool] = {}
        """By type and set, whether the set has it."""

    def refuse(
        self, client: redis.Redis, seen: Collection[Seen], of_pages: Collection[Seen], now: datetime
    ) -> set[Seen]:
        """Those of the types that are to be counted as `OTHER`; the others are known from now on.

        `of_pages` are those that no server has sent. May be repeated. Raises
        redis.ConnectionError. A Redis that answers with an error caps nothing: the apply script,
        which comes next, words what is wrong with it.
        """
        self._forget_old(now)
        known = self.known  # what another thread reads meanwhile has sets of its own
        removed = self._removed
        asked: defaultdict[str, list[Seen]] = defaultdict(list)
        for one in seen:
            if one not in known and self._answer(one, removed, now) is None:
                asked[self._set_of(one[1], now)].append(one)
        for day, some in sorted(asked.items()):  # days in their order, old ones last
            try:
                self._ask(client, day, some, of_pages, now)
            except redis.ResponseError as error:
                logger.error("event types are not capped: %s", error)
        refused = set[Seen]()
        for one in seen:
            if one not in known:
                (refused if self._answer(one, removed, now) is False else known).add(one)
        return refused

    def _answer(self, one: Seen, removed: Container[str], now: datetime) -> bool | None:
        """Whether a type is admitted; None where Redis is to be asked."""
        if one[0] in removed:
            return False
        if is_named(one[0], self._options):
            return True
        return self._answers.get((one[0], self._set_of(one[1], now)))

    def read_removed(self, client: redis.Redis) -> None:
        """Take note of which types were removed: they are refused, whatever was known of them.
        `known` is made anew last: with it goes what was removed by then, or more."""
        names = cast("list[bytes]", client.zrange(self._keys.removed_types, 0, -1))
        self._removed = frozenset(name.decode(errors="replace") for name in names)
        self._answers = {}
        self.known = set()

    def _forget_old(self, now: datetime) -> None:
        if now > self.known_until or len(self.known) + len(self._answers) > _MOST_REMEMBERED:
            self.known, self._answers = set(), {}
            self.known_until = now + _REMEMBERED

    def _set_of(self, hour: str, now: datetime) -> str:
        today = now.date()
        day = hour[:10] or f"{today}"
        return day if day >= f"{today - timedelta(days=1)}" else f"past:{today}"

    def _ask(
        self,
        client: redis.Redis,
        day: str,
        asked: Collection[Seen],
        of_pages: Collection[Seen],
        now: datetime,
    ) -> None:
        by_page: dict[str, bool] = {}
        for one in asked:
            by_page[one[0]] = by_page.get(one[0], True) and one in of_pages
        names = list(by_page)
        answer = _ADMIT.run(
            client,
            keys=self._sets(day) + self._sets(_day_before(day)),
            args=[
                self._options.event_types_cap,
                int(_expire_at(day, now).timestamp()),
                msgspec.msgpack.encode(list(by_page.items())),
            ],
        )
        refused = {names[position - 1] for position in cast("list[int]", answer)}
        self._answers.update({(name, day): name not in refused for name in names})

    def _sets(self, day: str) -> list[str]:
        return [self._keys.types(day), self._keys.types(f"{day}:pages")]


def count_as_other(event: Event, refused: Collection[Seen]) -> Event:
    """The event as it is counted and logged: where its type is refused, that of the rest, with its
    own as the property `ORIGINAL`."""
    if (event.event_type, hour_text(event.timestamp)) not in refused:
        return event
    properties = {**(event.properties or {}), ORIGINAL: event.event_type}
    return msgspec.structs.replace(event, event_type=OTHER, properties=properties)


def is_named(event_type: str, options: CounterOptions) -> bool:
    """Whether a type needs no place under the cap: the settings name it, or it is one of ours."""
    logged = options.event_log.types
    is_logged = not isinstance(logged, str) and event_type in logged
    is_measured = event_type in options.count_by or event_type in options.sums
    return is_logged or is_measured or event_type in (OTHER, TYPE_UNKNOWN)


def list_named(options: CounterOptions) -> set[str]:
    """The event types that the settings name."""
    logged = options.event_log.types
    return {*options.count_by, *options.sums, *(() if isinstance(logged, str) else logged)}


def _day_before(day: str) -> str:
    """The set whose types come in past the cap; for old days that of the day of arrival."""
    if day.startswith("past:"):
        return day.removeprefix("past:")
    return f"{date.fromisoformat(day) - timedelta(days=1)}"


def _expire_at(day: str, now: datetime) -> datetime:
    begin = datetime.fromisoformat(day.removeprefix("past:")).replace(tzinfo=UTC)
    return max(begin + timedelta(days=1), now) + _LIFETIME
