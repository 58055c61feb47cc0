"""All rows of a card: searched, sorted, a page at a time, and as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pipeline.web.api.table_responses import CsvTable
from pipeline.web.dashboard.overview.cards import link_type, link_value
from pipeline.web.dashboard.overview.reading import read_types
from pipeline.web.dashboard.page import Asked, Download, Page, Sources
from pipeline.web.errors import InvalidParameter

PATH = "/dashboard/details"
ROWS_A_PAGE = 50
_MOST_RANKED = 10_000
"""Values and users that are read: a property has no more values a day than the cap allows."""
_OF = {"types": "Event type", "values": "Value", "users": "User"}
_PARAMETER = "of"


@dataclass(frozen=True)
class DetailRow:
    """A row: events in the range, their part of all (None: not known), and those before."""

    name: str
    count: int
    part: float | None = None
    before: int | None = None
    url: str = ""


@dataclass(frozen=True)
class Details:
    """The rows that are asked for, in order. `as_of` is the flush that they are of (None: there was
    none yet); `is_live` that they are exact and of now."""

    of: str
    column: str
    rows: Sequence[DetailRow]
    as_of: datetime | None = None
    is_live: bool = True
    is_cut: bool = False


def read_details(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """What the page shows."""
    found = _read(sources, asked)
    first = (asked.state.page - 1) * ROWS_A_PAGE
    return {
        # Without the rows of other pages: the values are kept for when servers are away.
        "found": replace(found, rows=found.rows[first : first + ROWS_A_PAGE]),
        "rows_in_all": len(found.rows),
        "rows_a_page": ROWS_A_PAGE,
        "days": asked.state.days(asked.now),
        "compared_days": asked.state.compared_days(asked.now),
        "tabs": _OF,
        "csv_url": asked.state.change(page=1).url(f"{PATH}.csv", {_PARAMETER: found.of}),
    }


def read_csv(sources: Sources, asked: Asked) -> CsvTable:
    """All rows of the page."""
    found = _read(sources, asked)
    columns = [found.column.lower().replace(" ", "_"), "count"]
    if found.of != "types":
        return CsvTable(found.of, columns, [(one.name, one.count) for one in found.rows])
    rows = [(one.name, one.count, one.before) for one in found.rows]
    return CsvTable(found.of, [*columns, "before"], rows)


def _read(sources: Sources, asked: Asked) -> Details:
    of = asked.query.get(_PARAMETER, "types")
    if of not in _OF:
        raise InvalidParameter(_PARAMETER, f"{of[:80]!r} is not known; use types, values or users")
    found = _read_types(sources, asked) if of == "types" else _read_ranking(sources, asked, of)
    wanted = asked.state.search.casefold()
    rows = [one for one in found.rows if wanted in one.name.casefold()]
    sort = asked.state.sort
    rows.sort(key=_SORTS[sort.removeprefix("-")], reverse=sort.startswith("-"))
    return Details(of, _OF[of], rows, found.as_of, found.is_live, found.is_cut)


_SORTS: Mapping[str, Any] = {
    "count": lambda row: (-row.count, row.name),
    "name": lambda row: (row.name.casefold(), row.name),
    "change": lambda row: (-(row.count - (row.before or 0)), row.name),
}


def _read_types(sources: Sources, asked: Asked) -> Details:
    now, before = read_types(sources, asked)
    total = sum(now.values())
    is_compared = asked.state.compared_days(asked.now) is not None
    rows = [
        DetailRow(
            name,
            n,
            n / total if total else None,
            before.get(name, 0) if is_compared else None,
            link_type(asked.state, name),
        )
        for name, n in now.items()
    ]
    # What came to an end is news too.
    rows += [
        DetailRow(name, 0, 0.0, n, link_type(asked.state, name))
        for name, n in before.items()
        if name not in now
    ]
    return Details("types", "", rows)


def _read_ranking(sources: Sources, asked: Asked, of: str) -> Details:
    state = asked.state
    if not state.event_type or (of == "values" and not state.of_property):
        needed = "property" if of == "values" and state.event_type else "type"
        raise InvalidParameter(needed, f"is needed for {of}: open them from the overview")
    name = state.of_property if of == "values" else "user"
    days = state.days(asked.now)
    found = sources.stats.top(state.event_type, name, *days, limit=_MOST_RANKED)
    total = sum(n for _, n in found.top)
    is_cut = len(found.top) == _MOST_RANKED
    rows = [
        DetailRow(
            one,
            n,
            None if is_cut else n / total,
            url=link_value(state, one) if of == "values" else "",
        )
        for one, n in found.top
    ]
    return Details(of, "", rows, found.as_of, is_live=False, is_cut=is_cut)


DETAILS = Page(
    path=PATH,
    title="Details",
    template="overview/details.html",
    read=read_details,
    parameters=(_PARAMETER,),
    is_in_navigation=False,
    is_scan=True,
)
DETAILS_CSV = Download(f"{PATH}.csv", read_csv, (_PARAMETER,))
