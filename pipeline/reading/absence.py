"""Why a count is 0, or a table empty, in one line: a name that never came, a property that is not
counted, days without events. For people, beside the number, which is right as it is."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, timedelta

import redis
from sqlalchemy import Engine, text

from pipeline.options import CountBy, Sums
from pipeline.reading.event_types import read_books
from pipeline.reading.suggestions import show, suggest, suggest_combination
from pipeline.reading.totals import read_status
from pipeline.redis.keys import Keys

_MOST_NAMES = 10_000
_RECENT_DAYS = 31
_READ_TYPES = text(
    "SELECT event_type FROM schema$.analytics_daily GROUP BY event_type "
    "ORDER BY sum(count) DESC LIMIT :most"
)
_READ_DAYS = text(
    "SELECT min(date), max(date) FROM schema$.analytics_daily "
    "WHERE event_type = :event_type AND count > 0"
)
_READ_PROPERTIES = text(
    "SELECT DISTINCT property FROM schema$.analytics_dimension_daily "
    "WHERE event_type = :event_type AND date >= :since LIMIT :most"
)


@dataclass(frozen=True)
class Absence:
    """Explains on these servers, where `count_by` and `sums` are what this process's settings say:
    those of the event workers may differ, so what is stored counts too.

    Raises redis.RedisError or sqlalchemy.exc.OperationalError when a server is away.
    """

    client: redis.Redis
    keys: Keys
    engine: Engine
    count_by: CountBy
    sums: Sums = field(default_factory=dict)

    def explain_type(self, event_type: str) -> str:
        """Why nothing of the type was found, in some range of days."""
        with self.engine.connect() as connection:
            first, last = connection.execute(_READ_DAYS, {"event_type": event_type}).one()
        if first is not None:
            return f"no {show(event_type)} in these days; stored are {first} to {last}"
        if event_type in self._list_booked_types():
            return f"no {show(event_type)} in these days; `analytics types` says when they came"
        near = suggest(event_type, self._list_types())
        return (
            f"no event of the type {show(event_type)} was ever counted; "
            f"{near or '`analytics types` lists those that were'}{self._describe_queue()}"
        )

    def explain_property(self, event_type: str, name: str, today: date) -> str:
        """Why no value of the property was found, or not the one that was sought."""
        counted = self._list_counted(event_type, name, today)
        if name in counted:
            if not self.is_known(event_type):
                return self.explain_type(event_type)
            return (
                f"no such value of {show(name)} was counted in these days; `analytics stats top "
                f"{show(event_type)} {show(name)} --fresh` lists those that were"
            )
        wanted = {**self.count_by, event_type: [*self.count_by.get(event_type, ()), name]}
        near = suggest_combination(name, counted) or suggest(name, counted)
        unknown = "" if self.is_known(event_type) else f"{self.explain_type(event_type)}; and "
        return (
            f"{unknown}values of {show(name)} are not counted for {show(event_type)}: "
            + (f"{near} or " if near else "")
            + f"set ANALYTICS_COUNT_BY='{json.dumps(wanted, ensure_ascii=False)}' for the event "
            "workers; `analytics rebuild` then counts closed days too"
        )

    def explain_properties(self, event_type: str) -> str:
        """Why no property of a type is known."""
        if not self.is_known(event_type):
            return self.explain_type(event_type)
        return (
            f"no archived {show(event_type)} had properties: the archive takes events every "
            "minute, --fresh has it take them now, and it takes none of types that "
            "ANALYTICS_EVENT_LOG leaves out"
        )

    def explain_sum(self, event_type: str, name: str) -> str:
        """Why no number of a property was found."""
        summed = self.sums.get(event_type, {})
        if name in summed:
            if not self.is_known(event_type):
                return self.explain_type(event_type)
            return f"no {show(event_type)} in these days had a number as its {show(name)}"
        wanted = {**self.sums, event_type: {**summed, name: 2}}
        near = suggest(name, summed)
        return (
            f"numbers of {show(name)} are not summed for {show(event_type)}: "
            + (f"{near} or " if near else "")
            + f"set ANALYTICS_SUM='{json.dumps(wanted, ensure_ascii=False)}' for the event workers "
            "(2 are the decimals that are kept); `analytics rebuild` then sums closed days too"
        )

    def explain_users(self, event_type: str) -> str:
        """Why a ranking of the users of a type is empty."""
        if not self.is_known(event_type):
            return self.explain_type(event_type)
        return (
            f"no {show(event_type)} of a user is stored in these days: a ranking is as of the "
            "last flush, and needs events with a user_id"
        )

    def explain_no_users(self, event_types: Collection[str]) -> str:
        """Why no users of these types, of any where none is named, were found."""
        for event_type in sorted(event_types):
            if not self.is_known(event_type):
                return self.explain_type(event_type)
        what = ", ".join(map(show, sorted(event_types))) or "event"
        return (
            f"no {what} of a user is stored in these days: users are counted as of the last "
            f"flush, and by events with a user_id{self._describe_queue()}"
        )

    def explain_user(self, user_id: str) -> str:
        """Why nothing of a user was found."""
        return (
            f"nothing of the user {show(user_id)} was counted in these days; ids are compared as "
            f"they were sent, capitals too{self._describe_queue()}"
        )

    def is_known(self, event_type: str) -> bool:
        """Whether an event of the type was ever counted."""
        with self.engine.connect() as connection:
            first, _ = connection.execute(_READ_DAYS, {"event_type": event_type}).one()
        return first is not None or event_type in self._list_booked_types()

    def _list_booked_types(self) -> set[str]:
        books = read_books(self.client, self.keys)
        return {name for name, row in books.items() if row.get("counted")}

    def _list_types(self) -> set[str]:
        with self.engine.connect() as connection:
            stored = connection.execute(_READ_TYPES, {"most": _MOST_NAMES}).scalars()
            return {*stored, *self._list_booked_types()}

    def _list_counted(self, event_type: str, name: str, today: date) -> set[str]:
        """Properties of the type that are counted somewhere, as far as that can be seen; `name` is
        looked for also among what is not stored yet."""
        since = today - timedelta(days=_RECENT_DAYS)
        values = {"event_type": event_type, "since": since, "most": _MOST_NAMES}
        with self.engine.connect() as connection:
            stored = connection.execute(_READ_PROPERTIES, values).scalars()
            found = {*stored, *self.count_by.get(event_type, ())}
        if self.client.exists(self.keys.values(event_type, name, f"{today}")):
            found.add(name)
        return found

    def _describe_queue(self) -> str:
        waiting = read_status(self.client, self.keys).queue_depth
        return f" (messages that wait for an event worker: {waiting:,})" if waiting else ""
