"""Elements of SVG as text that is safe in a page: every attribute and text is escaped. Pure.

Colours, dashes and fonts are classes of the stylesheet, so that they follow its dark mode; geometry
is in presentation attributes, since the policy of the pages allows no style attribute.
"""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

Attribute = str | int | float


def element(tag: str, *children: str | Markup, **attributes: Attribute) -> Markup:
    """An element; text among the children is escaped. `class_` is `class`, and underscores in other
    names are hyphens."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_write(value))}"'
        for name, value in attributes.items()
        if value != ""
    )
    inside = "".join(escape(child) for child in children)
    return Markup(f"<{tag}{given}>{inside}</{tag}>" if inside else f"<{tag}{given}/>")


def join(parts: Iterable[Markup]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def draw_path(points: Iterable[tuple[float, float]]) -> str:
    """The `d` of a line through these points."""
    return "".join(f"{'L' if n else 'M'}{_write(x)} {_write(y)}" for n, (x, y) in enumerate(points))


def _write(value: Attribute) -> str:
    """A tenth of a pixel is enough, and half of the bytes."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
