"""A small line without axes, beside a number that says the same in words."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.web.dashboard.charts.svg import draw_path, element

_WIDTH, _HEIGHT, _EDGE = 120, 32, 2


def draw_sparkline(values: Sequence[float], *, is_unfinished: bool = False) -> Markup:
    """The line; nothing below two values. Hidden from screen readers, since it adds no number."""
    if len(values) < 2:
        return Markup("")
    top = max(values) or 1
    points = [
        (
            _EDGE + (_WIDTH - 2 * _EDGE) * n / (len(values) - 1),
            _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * value / top,
        )
        for n, value in enumerate(values)
    ]
    whole = points[:-1] if is_unfinished else points
    parts = [element("path", class_="line", d=draw_path(whole))] if len(whole) > 1 else []
    if is_unfinished:
        parts.append(element("path", class_="line unfinished", d=draw_path(points[-2:])))
    return element(
        "svg",
        *parts,
        class_="sparkline",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        aria_hidden="true",
        focusable="false",
    )


def draw_share(share: float) -> Markup:
    """A bar as long as this share of its row, behind a name in a table."""
    width = f"{max(0.0, min(share, 1.0)) * 100:.1f}%"
    bar = element("rect", class_="share", width=width, height="100%", rx=3)
    return element("svg", bar, class_="share", aria_hidden="true", focusable="false")
