"""A line over time with the line of the period it is compared with, and marks of what happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from markupsafe import Markup

from pipeline.web.dashboard.charts.chart import Chart, Drawing, Table
from pipeline.web.dashboard.charts.frame import Frame, Size
from pipeline.web.dashboard.charts.scale import find_moment, list_time_ticks
from pipeline.web.dashboard.charts.svg import draw_path, element, join
from pipeline.web.dashboard.formats import format_number, format_tick, name_point


@dataclass(frozen=True)
class Annotation:
    """Something that happened at a point, by its position."""

    position: int
    text: str


@dataclass(frozen=True)
class LineChart:
    """A series by time. `points` are (name of the point in its series, value), as
    `CountedPeriod.points` has them; those of `before` are drawn one by one below them."""

    name: str
    title: str
    """What is counted, such as `Events`."""
    step: str
    tz: ZoneInfo
    points: Sequence[tuple[str, float | None]]
    """In order; None: its time is still to come."""
    before: Sequence[tuple[str, float]] | None = None
    is_unfinished: bool = False
    """Whether the last point's time has not ended yet: what leads to it is dashed."""
    annotations: Sequence[Annotation] = ()
    before_title: str = "Period before"
    cut: tuple[bool, bool] = (False, False)
    """Whether the range has a part only of the first point's week or month, and of the last's."""
    format: Callable[[float], str] = format_number
    is_whole: bool = True
    """Whether the values are counts."""

    def draw(self) -> Chart:
        """The chart."""
        sentence = self._describe()
        drawings = [self._draw(size, sentence) for size in ("wide", "narrow")]
        legend = [("line", self.title)]
        if self.before is not None:
            legend.append(("line before", self.before_title))
        if any(self.cut):
            legend.append(("line unfinished", f"Part of a {self.step}"))
        elif self.is_unfinished:
            legend.append(("line unfinished", "Not ended yet"))
        is_empty = not any(self._values) and not any(value for _, value in self.before or ())
        return Chart(self.name, self.title, sentence, drawings, self._tabulate(), legend, is_empty)

    @property
    def _values(self) -> list[float]:
        return [value for _, value in self.points if value is not None]

    def _draw(self, size: Size, sentence: str) -> Markup:
        values = self._values
        before = [value for _, value in self.before or ()][: len(self.points)]
        frame = Frame.fit(
            size, [*values, *before], len(self.points), format_tick, is_whole=self.is_whole
        )
        moments = [find_moment(at, self.tz) for at, _ in self.points]
        parts = [frame.draw_axes(list_time_ticks(moments, frame.most_time_ticks))]
        if len(values) > 1:
            parts.append(_draw_area(frame, values))
        if before:
            parts.append(element("path", class_="line before", d=_trace(frame, before)))
        parts.append(self._draw_line(frame, values))
        parts += [self._mark(frame, one) for one in self.annotations if one.position < len(values)]
        drawing = Drawing(self.name, self.title, sentence, frame.width, frame.height, size)
        return drawing.draw(*parts)

    def _draw_line(self, frame: Frame, values: Sequence[float]) -> Markup:
        if not values:
            return Markup("")
        if len(values) == 1:
            return element("circle", class_="dot", cx=frame.x(0), cy=frame.y(values[0]), r=4)
        at = [(frame.x(n), frame.y(value)) for n, value in enumerate(values)]
        first, last = int(self.cut[0]), len(at) - int(self.cut[1] or self.is_unfinished)
        whole = at[first:last]
        parts = [element("path", class_="line", d=draw_path(whole))] if whole else []
        dashed = ([at[:2]] if first else []) + ([at[-2:]] if last < len(at) else [])
        for ends in dashed[: len(at) - 1]:
            parts.append(element("path", class_="line unfinished", d=draw_path(ends)))
        return join(parts)

    def _mark(self, frame: Frame, one: Annotation) -> Markup:
        x, bottom = frame.x(one.position), frame.y(0)
        return element(
            "g",
            element("title", one.text),
            element("line", x1=x, x2=x, y1=frame.top, y2=bottom),
            element("path", d=f"M{x:.1f} {frame.top - 6}l6 6l-6 6l-6 -6Z"),
            class_="mark",
        )

    def _name_points(self) -> list[str]:
        names = [name_point(at, self.step, self.tz) for at, _ in self.points]
        for is_cut, position in zip(self.cut, (0, -1), strict=True):
            if is_cut and names and "(" not in names[position]:
                names[position] += " (part)"
        return names

    def _describe(self) -> str:
        values = self._values
        if not values:
            return f"{self.title}: there is no point in this range."
        names = self._name_points()[: len(values)]
        high = max(range(len(values)), key=lambda n: values[n])
        said = (
            f"{self.title} by {self.step.replace('_', ' ')} from {names[0]} to {names[-1]}: "
            f"most were {self.format(values[high])} ({names[high]}), "
            f"the newest is {self.format(values[-1])}"
        )
        return said + (", and its time has not ended." if self.is_unfinished else ".")

    def _tabulate(self) -> Table:
        columns = ["Time", self.title]
        rows = [
            [name, "" if n is None else self.format(n)]
            for name, (_, n) in zip(self._name_points(), self.points, strict=True)
        ]
        if self.before is not None:
            columns += ["Compared with", f"{self.title} then"]
            for n, row in enumerate(rows):
                at, value = self.before[n] if n < len(self.before) else ("", 0)
                row += [name_point(at, self.step, self.tz), self.format(value)] if at else ["", ""]
        return Table(columns, rows, [at for at, _ in self.points])


def _draw_area(frame: Frame, values: Sequence[float]) -> Markup:
    """What is below the line; the line of the period before is drawn over it."""
    ground = [(frame.x(len(values) - 1), frame.y(0)), (frame.x(0), frame.y(0))]
    outline = [*((frame.x(n), frame.y(value)) for n, value in enumerate(values)), *ground]
    return element("path", class_="area", d=draw_path(outline))


def _trace(frame: Frame, values: Sequence[float]) -> str:
    return draw_path((frame.x(n), frame.y(value)) for n, value in enumerate(values))
