"""What every chart is to a template: drawings, a sentence, and a table of the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from pipeline.web.dashboard.charts.svg import element


@dataclass(frozen=True)
class Table:
    """The numbers of a chart, for people who do not see it and for scripts."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    times: Sequence[str] = ()
    """By row, the time of its point as the series names it; empty: rows are no times."""


@dataclass(frozen=True)
class Chart:
    """A chart, drawn. `name` is unique in its page."""

    name: str
    title: str
    sentence: str
    drawings: Sequence[Markup]
    table: Table
    legend: Sequence[tuple[str, str]] = field(default=())
    """Class of a line in the stylesheet, and what it shows."""
    is_empty: bool = False
    """Whether there is nothing but zeros."""


@dataclass(frozen=True)
class Drawing:
    """What an SVG is drawn with."""

    name: str
    title: str
    sentence: str
    width: int
    height: int
    class_: str

    def draw(self, *inside: Markup) -> Markup:
        """The SVG, which screen readers announce with its title and its sentence."""
        title_id, sentence_id = f"{self.name}-{self.class_}-t", f"{self.name}-{self.class_}-d"
        return element(
            "svg",
            element("title", self.title, id=title_id),
            element("desc", self.sentence, id=sentence_id),
            *inside,
            class_=f"chart {self.class_}",
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            aria_labelledby=f"{title_id} {sentence_id}",
        )
