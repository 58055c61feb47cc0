"""Templates, which lie beside the code of their page: `overview/overview.html`.

Everything is escaped, and a name that is not given is an error and not an empty place.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.web.dashboard import formats
from pipeline.web.dashboard.assets.assets import find_asset_url
from pipeline.web.dashboard.charts.sparkline import draw_share, draw_sparkline
from pipeline.web.dashboard.state import COMPARISONS, RANGES, STEPS
from pipeline.web.errors import InvalidParameter

ZONES = (
    *("UTC", "Europe/London", "Europe/Berlin", "Europe/Athens", "Europe/Istanbul"),
    *("Africa/Lagos", "Africa/Johannesburg", "Africa/Nairobi", "Asia/Dubai", "Asia/Karachi"),
    *("Asia/Kolkata", "Asia/Kathmandu", "Asia/Dhaka", "Asia/Bangkok", "Asia/Singapore"),
    *("Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney", "Pacific/Auckland", "America/Sao_Paulo"),
    *("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"),
)
"""What is proposed; any other may be typed."""


@cache
def _create_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.web.dashboard", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "number": formats.format_number,
        "short": formats.format_short,
        "share": formats.format_share,
        "duration": formats.format_duration,
        "isolate": formats.isolate,
    }
    environment.globals |= {
        "asset": find_asset_url,
        "sparkline": draw_sparkline,
        "draw_share": draw_share,
        "compare": formats.compare,
        "format_time": formats.format_time,
        "format_day": formats.format_day,
        "format_days": formats.format_days,
        "RANGES": RANGES,
        "COMPARISONS": COMPARISONS,
        "STEPS": STEPS,
        "ZONES": ZONES,
    }
    return environment


def render(name: str, values: Mapping[str, Any]) -> str:
    """A template with these values."""
    return _create_environment().get_template(name).render(values)


def render_block(name: str, block: str, values: Mapping[str, Any]) -> str:
    """One block of a template, for a part of a page. Raises `InvalidParameter` where it has none of
    this name."""
    template = _create_environment().get_template(name)
    if block not in template.blocks:
        raise InvalidParameter("card", "this page has no such part; leave it out")
    return "".join(template.blocks[block](template.new_context(dict(values))))
