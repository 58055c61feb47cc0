"""What a library was made to send, and whether all of it was counted, once and as it was sent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from pipeline.event.model import Event
from pipeline.event_log.queries import EventFilter, stream_events
from pipeline.services import Services
from tests.helpers.web_process import lately

OUTAGE_S = 8
LONG_AGO = datetime.combine(lately()[0] - timedelta(days=2), time(12), UTC)
"""Of each fifth order; the minutes are its number."""
PROPERTIES = {"city": "Köln ✓", "tags": [0.5, {}]}
"""Of each order, beside its number `n`, the library and the time `at` which it was sent."""


@dataclass(frozen=True)
class Sent:
    """So many `order_paid` of the users `LIBRARY-0`, `LIBRARY-1` and so on in turn, numbered by
    `n`, and of each other type so many."""

    library: str
    orders: int
    users: int
    others: Mapping[str, int]
    late_s: float = 5
    """How far an order's time may be off: what the library says about it is corrected by how long
    the request took to come."""

    def count(self, services: Services) -> int:
        """How many orders are counted so far."""
        days = LONG_AGO.date(), lately()[1]
        return services.stats.property_count("order_paid", "library", self.library, *days)

    def check_counts(self, services: Services) -> None:
        """Check the counts of each day, of each user and of the property."""
        day, count_library = LONG_AGO.date(), services.stats.property_count
        assert (count := self.count(services)) == self.orders, count
        of_that_day = count_library("order_paid", "library", self.library, day, day)
        assert of_that_day == self.orders // 5, of_that_day
        for n in range(self.users):
            user_id, days = f"{self.library}-{n}", (day, lately()[1])
            count = services.stats.user_count(user_id, "order_paid", *days)
            assert count == self.orders // self.users, (user_id, count)

    def check_events(self, events: list[Event]) -> None:
        """Check that these are the events, each of them once."""
        found = Counter(event.event_type for event in events)
        assert found == {"order_paid": self.orders, **self.others}, found
        assert len({event.event_id for event in events}) == len(events)
        orders = [event for event in events if event.event_type == "order_paid"]
        assert sorted(_properties(order)["n"] for order in orders) == list(range(self.orders))
        for order in orders:
            self._check_order(order)

    def _check_order(self, order: Event) -> None:
        properties = _properties(order)
        n = properties["n"]
        assert order.user_id == f"{self.library}-{n % self.users}", order
        assert (PROPERTIES | {"library": self.library}).items() <= properties.items(), order
        at = datetime.fromtimestamp(properties["at"], UTC)
        if n % 5 == 0:
            at = LONG_AGO + timedelta(minutes=n)
        assert abs(order.timestamp - at) < timedelta(seconds=self.late_s), (n, at, order.timestamp)


def read_events(services: Services) -> dict[str, list[Event]]:
    """Every event that was counted, by the library that its user is of."""
    services.archive_events()
    found = defaultdict(list)
    for page in stream_events(services.engine, EventFilter()):
        for event in page:
            found[str(event.user_id).rpartition("-")[0]].append(event)
    return found


def _properties(event: Event) -> dict[str, object]:
    return dict(event.properties or {})
