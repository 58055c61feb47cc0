"""Bars: one for each of some names, sizes or times; a histogram has them side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.web.dashboard.charts.chart import Chart, Drawing, Table
from pipeline.web.dashboard.charts.frame import Frame, Size
from pipeline.web.dashboard.charts.scale import TimeTick
from pipeline.web.dashboard.charts.svg import element
from pipeline.web.dashboard.formats import format_number, format_short, format_tick


@dataclass(frozen=True)
class BarChart:
    """Upright bars, by (name, value) from left to right."""

    name: str
    title: str
    bars: Sequence[tuple[str, float]]
    column: str = "Of"
    """What the names are, above their column in the table."""
    gap: float = 0.25
    """Share of a bar's width that is left free; 0 for a histogram."""
    format: Callable[[float], str] = format_number

    def draw(self) -> Chart:
        """The chart."""
        sentence = self._describe()
        rows = [[name, self.format(value)] for name, value in self.bars]
        return Chart(
            self.name,
            self.title,
            sentence,
            [self._draw(size, sentence) for size in ("wide", "narrow")],
            Table([self.column, self.title], rows),
            is_empty=not any(value for _, value in self.bars),
        )

    def _draw(self, size: Size, sentence: str) -> Markup:
        values = [value for _, value in self.bars]
        frame = Frame.fit(size, values, len(values), format_tick, is_banded=True)
        step = -(-len(values) // frame.most_time_ticks) or 1
        ticks = [TimeTick(n, self.bars[n][0]) for n in range(0, len(values), step)]
        width = frame.inner_width / max(len(values), 1) * (1 - self.gap)
        bars = [
            element(
                "rect",
                element("title", f"{name}: {self.format(value)}"),
                class_="bar",
                x=frame.x(n) - width / 2,
                width=max(width - 0.5, 0.5),
                y=frame.y(value),
                height=frame.y(0) - frame.y(value),
            )
            for n, (name, value) in enumerate(self.bars)
        ]
        drawing = Drawing(self.name, self.title, sentence, frame.width, frame.height, size)
        return drawing.draw(frame.draw_axes(ticks), *bars)

    def _describe(self) -> str:
        if not self.bars:
            return f"{self.title}: there is nothing in this range."
        name, value = max(self.bars, key=lambda bar: bar[1])
        return (
            f"{self.title}: {len(self.bars)} bars; the highest is {name} with {self.format(value)}."
        )


def draw_histogram(name: str, title: str, bins: Sequence[tuple[float, float, int]]) -> Chart:
    """How many numbers there are of each size; `bins` are (smallest, largest, count), as
    `Distribution.list_bars` has them."""
    bars = [(f"{format_short(low)}\u2013{format_short(high)}", float(n)) for low, high, n in bins]
    return BarChart(name, title, bars, "Size", gap=0).draw()
