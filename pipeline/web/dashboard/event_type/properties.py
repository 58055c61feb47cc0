"""Values of the counted properties of a type, and the sums and sizes of those that are summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.event.scale import bounds_of
from pipeline.options import TOGETHER
from pipeline.reading.sums import PERCENTILES, Distribution, PropertySum
from pipeline.web.dashboard.charts.bars import draw_histogram
from pipeline.web.dashboard.charts.chart import Chart
from pipeline.web.dashboard.overview.cards import Row, rank
from pipeline.web.dashboard.page import Asked, Sources
from pipeline.web.dashboard.paths import EVENT_TYPE

SHOWN = 10
_MOST_PROPERTIES = 20
_MOST_BARS = 24


@dataclass(frozen=True)
class ValuesCard:
    """The most frequent values of a property, or combinations of several, as of a flush."""

    number: int
    title: str
    rows: Sequence[Row]
    is_more: bool
    as_of: datetime | None


@dataclass(frozen=True)
class SumCard:
    """The numbers of a property in the range and in the one before: all of UTC days, live."""

    number: int
    name: str
    now: PropertySum
    before: PropertySum | None
    percentiles: Sequence[tuple[str, float | None]]
    chart: Chart


def list_counted(sources: Sources, event_type: str) -> list[str]:
    """The properties whose values are counted, those that are counted together after the others."""
    names = sources.services.counters.options.count_by.get(event_type, ())
    return sorted(names, key=lambda name: (TOGETHER in name, name))[:_MOST_PROPERTIES]


def read_values(sources: Sources, asked: Asked, event_type: str) -> list[ValuesCard]:
    """A card for each counted property; a click filters by a value."""
    state = asked.state
    cards = []
    for number, name in enumerate(list_counted(sources, event_type)):
        found = sources.stats.top(event_type, name, *state.days(asked.now), limit=SHOWN + 1)
        current = state.value if name == state.of_property else ""
        urls = {
            value: state.url(EVENT_TYPE, of_property=name, value="" if value == current else value)
            for value, _ in found.top
        }
        title = name.replace(TOGETHER, " + ")
        rows = rank(found.top[:SHOWN], None, urls, current)
        cards.append(ValuesCard(number, title, rows, len(found.top) > SHOWN, found.as_of))
    return cards


def read_sums(sources: Sources, asked: Asked, event_type: str) -> list[SumCard]:
    """A card for each property that is summed."""
    days, before = asked.state.days(asked.now), asked.state.compared_days(asked.now)
    names = sorted(sources.services.counters.options.sums.get(event_type, ()))
    sums, cards = sources.stats.sums, []
    for number, name in enumerate(names[:_MOST_PROPERTIES]):
        sizes = sums.read_distribution(event_type, name, *days)
        bars = join_bins(sizes)
        cards.append(
            SumCard(
                number,
                name,
                sums.read_sum(event_type, name, *days),
                sums.read_sum(event_type, name, *before) if before else None,
                [(f"{percent}th", sizes.find_percentile(percent)) for percent in PERCENTILES],
                draw_histogram(f"sizes-{number}-chart", f"Sizes of {name}", bars),
            )
        )
    return cards


def join_bins(sizes: Distribution, most: int = _MOST_BARS) -> list[tuple[float, float, int]]:
    """The bins in at most `most` bars of equally many bins each, empty ones among them: (smallest
    size, largest, count). Each bar is wider than the one before, as bins are."""
    if not sizes.bins:
        return []
    first, last = min(sizes.bins), max(sizes.bins)
    width = -(-(last - first + 1) // most)
    counts = [0] * (-(-(last - first + 1) // width))
    for number, n in sizes.bins.items():
        counts[(number - first) // width] += n
    bars = []
    for position, n in enumerate(counts):
        low = first + position * width
        bars.append((bounds_of(low)[0], bounds_of(min(low + width - 1, last))[1], n))
    return bars
