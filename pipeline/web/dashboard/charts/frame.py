"""What charts with axes have in common: sizes, lines at round numbers, times below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from pipeline.web.dashboard.charts.scale import TimeTick, list_ticks
from pipeline.web.dashboard.charts.svg import element, join

Size = Literal["wide", "narrow"]


@dataclass(frozen=True)
class Frame:
    """A drawing area within a chart, with 0 at its bottom. Two are drawn of each chart, and the
    stylesheet shows one: text that is scaled with a phone's screen could not be read."""

    size: Size
    positions: int
    """Points from left to right."""
    top_value: float
    ticks: Sequence[float]
    label: Callable[[float], str]
    is_banded: bool = False
    """Whether each point has a width, as bars have."""

    @classmethod
    def fit(
        cls,
        size: Size,
        values: Sequence[float],
        positions: int,
        label: Callable[[float], str],
        *,
        is_banded: bool = False,
        is_whole: bool = True,
    ) -> Frame:
        """A frame that holds these values."""
        ticks = list_ticks(max(values, default=0), whole=is_whole)
        return cls(size, positions, ticks[-1], ticks, label, is_banded)

    @property
    def width(self) -> int:
        """Of the whole chart."""
        return 960 if self.size == "wide" else 360

    @property
    def height(self) -> int:
        """Of the whole chart."""
        return 280 if self.size == "wide" else 220

    left, right, top, bottom = 52, 12, 12, 28

    @property
    def inner_width(self) -> int:
        """Of the drawing area."""
        return self.width - self.left - self.right

    @property
    def most_time_ticks(self) -> int:
        """For how many times there is room below."""
        return 10 if self.size == "wide" else 4

    def x(self, position: float) -> float:
        """Where a point is; with bands, the middle of its own."""
        if self.is_banded:
            return self.left + self.inner_width * (position + 0.5) / max(self.positions, 1)
        if self.positions < 2:
            return self.left + self.inner_width / 2
        return self.left + self.inner_width * position / (self.positions - 1)

    def y(self, value: float) -> float:
        """How far down a value is."""
        room = self.height - self.top - self.bottom
        return self.top + room * (1 - value / self.top_value)

    def draw_axes(self, times: Sequence[TimeTick]) -> Markup:
        """The lines at round numbers and what is written beside and below."""
        parts: list[Markup] = []
        for tick in self.ticks:
            y = self.y(tick)
            parts.append(
                element(
                    "line",
                    class_="base" if tick == 0 else "grid",
                    x1=self.left,
                    x2=self.width - self.right,
                    y1=y,
                    y2=y,
                )
            )
            label = self.label(tick)
            parts.append(
                element("text", label, class_="tick", x=self.left - 8, y=y + 4, text_anchor="end")
            )
        for time in times:
            x = self.x(time.position)
            anchor = "middle"
            if x > self.width - 30:
                anchor, x = "end", self.width - 2.0
            below = self.height - 8
            parts.append(
                element("text", time.label, class_="tick", x=x, y=below, text_anchor=anchor)
            )
        return join(parts)
