"""The numbers at the top: events, users, new users, and a measure that the viewer chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from pipeline.days import list_days
from pipeline.reading.people.users import UserSeries
from pipeline.web.dashboard.formats import Number, format_number, format_short
from pipeline.web.dashboard.overview.reading import Events, is_unfinished, read_users
from pipeline.web.dashboard.page import Asked, Sources
from pipeline.web.dashboard.state import PERCENTILES


@dataclass(frozen=True)
class Tile:
    """One number, with that of the period before."""

    title: str
    now: Number | None
    before: Number | None
    values: Sequence[float] = ()
    is_unfinished: bool = False
    note: str = ""

    @property
    def number(self) -> str:
        """As it is shown."""
        return format_short(self.now)

    @property
    def exact(self) -> str:
        """All digits of it."""
        return format_number(self.now)


def list_tiles(sources: Sources, asked: Asked, events: Events) -> dict[str, object]:
    """The tiles, and the time of the flush that the users are of."""
    users, users_before = read_users(sources, asked)
    goes_on = is_unfinished(asked, events.now.last)
    tiles = [
        Tile(
            "Events",
            events.now.count,
            events.count_before(asked.now),
            [n for _, n in events.list_points(asked.now) if n is not None],
            goes_on,
            events.note(asked.now),
        ),
        *_list_user_tiles(asked, users, users_before, goes_on),
    ]
    if measure := _read_measure(sources, asked):
        tiles.append(measure)
    return {
        "tiles": tiles,
        "as_of": users.total.as_of,
        "measures": list_measures(sources),
        "measure": asked.state.measure or next(iter(list_measures(sources)), ""),
    }


def _list_user_tiles(
    asked: Asked, users: UserSeries, before: UserSeries | None, goes_on: bool
) -> list[Tile]:
    titles = ("Active users", "New users")
    if users.total.as_of is None:
        return [Tile(title, None, None) for title in titles]
    then, points = before.total if before else None, [one for _, one in users.points]
    # Users are counted by whole days, and of a type whatever the values of its properties.
    note = f"any {asked.state.of_property}" if asked.state.value else ""
    if not note and goes_on and then and asked.state.step(asked.now) in ("hour", "quarter_hour"):
        note = "from whole days"
    active = Tile(
        titles[0],
        users.total.users,
        then.users if then else None,
        [one.users for one in points],
        goes_on,
        note,
    )
    new = Tile(
        titles[1],
        users.total.new,
        then.new if then else None,
        [one.new for one in points],
        goes_on,
        note,
    )
    return [active, new]


def list_measures(sources: Sources) -> dict[str, str]:
    """The sums and percentiles that can be chosen, by their names in the URL, with those for
    people."""
    found: dict[str, str] = {}
    for event_type, properties in sources.services.counters.options.sums.items():
        for name in properties:
            found[f"sum:{event_type}:{name}"] = f"Sum of {name} · {event_type}"
            for percentile, percent in PERCENTILES.items():
                found[f"{percentile}:{event_type}:{name}"] = (
                    f"{percent}th percentile of {name} · {event_type}"
                )
    return found


def _read_measure(sources: Sources, asked: Asked) -> Tile | None:
    """The measure that the URL names, or the first; None where no property is summed. Days are
    those of UTC."""
    names = list_measures(sources)
    wanted = asked.state.measure or next(iter(names), "")
    if not wanted:
        return None
    kind, event_type, name = wanted.split(":", 2)
    days, before = asked.state.days(asked.now), asked.state.compared_days(asked.now)
    title = names.get(wanted, f"{kind} of {name} · {event_type}")

    def read(first: date, last: date) -> Decimal | float | None:
        if kind == "sum":
            return sources.stats.sums.read_sum(event_type, name, first, last).sum
        found = sources.stats.sums.read_distribution(event_type, name, first, last)
        return found.find_percentile(PERCENTILES[kind])

    values: list[float] = []
    if kind == "sum":
        by_day = sources.stats.sums.read_daily_sums(event_type, name, *days)
        values = [float(by_day[day].sum) if day in by_day else 0.0 for day in list_days(*days)]
    note = "" if asked.state.zone == "UTC" else "days of UTC"
    return Tile(title, read(*days), read(*before) if before else None, values, note=note)
