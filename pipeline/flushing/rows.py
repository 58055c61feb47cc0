"""From counters to the rows of tables, in the order of their keys. Pure.

The rows of a table come as groups, each with all of the primary key in common but its last column:
the users of an event type and day, or the values of a property. A group's key goes to Postgres
once, which then stores new rows in a tenth less time than from columns that repeat it.
"""

from __future__ import annotations

import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Table

from pipeline.flushing.claims import Fields
from pipeline.flushing.counter_rows import ROWS, counter_name
from pipeline.postgres.tables import (
    BETWEEN_GROUPS,
    BETWEEN_ROWS,
    dimension_daily,
    key_columns,
    quarter_hourly,
    user_daily,
)
from pipeline.redis.keys import Keys


class Group(NamedTuple):
    """Rows with the same primary key but for its last column. All values are text."""

    head: Sequence[str]
    """The columns of the primary key but the last, in their order."""
    lasts: Sequence[str]
    counts: Sequence[str]
    """As many as `lasts`."""


Groups = Sequence[Group]
"""Rows of a table."""
Rows = Sequence[tuple[Table, Groups]]
"""By table, which may come twice."""
Counts = defaultdict[tuple[Any, ...], dict[str, str]]
"""Counts by the last column of a table's key, by the table and the columns before it."""
Field = tuple[str, str]
"""The name of a field, and its count."""

_GROUPS, _ROWS = "\x1e", "\x1f"
_BETWEEN = b" "
"""Between fields that are decoded together: no field has a space, and it can be printed."""
_LONGEST_COUNT = 20
_COUNT = re.compile("-?[0-9]{1,19}")
_QUARTERS = {f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 15, 30, 45)}
_NOT_PLAIN = re.compile("[%{}]")


@dataclass(frozen=True)
class Refused:
    """A counter that cannot be stored."""

    counter: str
    count: str
    reason: str


def parameters_of(table: Table, groups: Groups) -> dict[str, str]:
    """The parameters of the table's additive upsert."""
    *heads, last = key_columns(table)
    columns = {name: [one.head[at] for one in groups] for at, name in enumerate(heads)}
    of_groups, of_rows = _GROUPS, _ROWS
    everything = (*columns.values(), *(one.lasts for one in groups))
    if any(_holds_separator("".join(column)) for column in everything):
        token = secrets.token_hex(8)  # which no name can contain
        of_groups, of_rows = of_groups + token, of_rows + token
    joined = {
        last: [of_rows.join(one.lasts) for one in groups],
        "count": [of_rows.join(one.counts) for one in groups],
    }
    return {
        **{name: of_groups.join(column) for name, column in (columns | joined).items()},
        BETWEEN_GROUPS: of_groups,
        BETWEEN_ROWS: of_rows,
    }


def _holds_separator(text: str) -> bool:
    return _GROUPS in text or _ROWS in text


def halve(groups: Groups) -> tuple[Groups, Groups]:
    """Two parts of rows of which there are at least two."""
    if len(groups) > 1:
        return groups[: len(groups) // 2], groups[len(groups) // 2 :]
    [(head, lasts, counts)] = groups
    half = len(lasts) // 2
    first, second = (lasts[:half], counts[:half]), (lasts[half:], counts[half:])
    return [Group(head, *first)], [Group(head, *second)]


def group_rows(rows: Iterable[Sequence[str]]) -> Groups:
    """Groups of rows that are in the order of their keys: those of the primary key, then the
    count."""
    groups = []
    for head, found in groupby(rows, key=lambda row: row[:-2]):
        lasts, counts = zip(*(row[-2:] for row in found), strict=True)
        groups.append(Group(head, lasts, counts))
    return groups


def rows_of(counts: Mapping[str, int], keys: Keys) -> tuple[Rows, list[Refused]]:
    """The rows of counters given by name, and the names that are no counters of ours."""
    rows: defaultdict[Table, list[tuple[str, ...]]] = defaultdict(list)
    refused: list[Refused] = []
    for name, count in counts.items():
        try:
            counter = keys.parse(name)
        except ValueError as error:
            refused.append(Refused(name, str(count), str(error)))
        else:
            table, key = ROWS[type(counter)]
            rows[table].append((*map(str, key(counter)), str(count)))
    return [(table, group_rows(sorted(found))) for table, found in rows.items()], refused


def rows_of_fields(pages: Iterable[Fields], keys: Keys) -> tuple[Rows, list[Refused]]:
    """The rows of fields of buckets, no row twice however often its field comes; and the fields
    that are no counters, or whose count is no number. Takes some 200 bytes for a field."""
    found: Counts = defaultdict(dict)
    refused: dict[str, Refused] = {}
    for page in pages:
        text = _BETWEEN.join(page).decode(errors="surrogateescape")
        numbers = _BETWEEN.join(page.values()).decode(errors="surrogateescape")
        names, counts = text.split(" "), numbers.split(" ")
        # Most names have nothing escaped in them, and nothing that is not allowed.
        is_plain = text.isprintable() and numbers.isascii() and not _NOT_PLAIN.search(text)
        if not len(names) == len(counts) == len(page):
            is_plain, names, counts = False, *_decode_each(page)
        for name, count in zip(names, counts, strict=True):
            if is_plain and count.isdecimal() and len(count) < _LONGEST_COUNT:
                match name.split(":"):
                    case [user_id, event_type, day] if _is_day(day):
                        found[user_daily, day, event_type][user_id] = count
                        continue
                    case [event_type, property_name, value, day] if _is_day(day):
                        found[dimension_daily, day, event_type, property_name][value] = count
                        continue
                    case ["quarter", event_type, *at] if moment := _read_quarter(*at):
                        found[quarter_hourly, event_type][moment] = count
                        continue
            _add_unusual(found, refused, keys, (name, count))
    return sort_rows(found), list(refused.values())


@lru_cache(maxsize=1024)
def _read_quarter(day: str, *at: str) -> str | None:
    """The beginning of a quarter hour, as its row has it; None for anything else."""
    is_one = _is_day(day) and ":".join(at) in _QUARTERS
    return f"{day} {':'.join(at)}:00+00:00" if is_one else None


def _add_unusual(found: Counts, refused: dict[str, Refused], keys: Keys, one: Field) -> None:
    """Add a field that has something escaped in it, or is none of ours. One that is written in
    another way than ours must not take the place of ours in the row of both."""
    name, count = keys.name_of(one[0]), one[1]
    try:
        counter = keys.parse(name)
    except ValueError as error:
        refused[name] = Refused(name, count, str(error))
        return
    table, key = ROWS[type(counter)]
    *head, last = map(str, key(counter))
    written = counter_name(table, [*head, last], keys)
    if written != name:
        refused[name] = Refused(name, count, f"the name of this counter is written {written!r}")
    elif not _COUNT.fullmatch(count):
        refused[name] = Refused(name, count, "the counter is not a whole number")
    else:
        found[(table, *head)][last] = count


def _decode_each(page: Fields) -> tuple[list[str], list[str]]:
    """Names and counts of a page in which some have a space, as none of ours has."""
    names, counts = list(page), list(page.values())
    every = [text.decode(errors="surrogateescape") for text in names + counts]
    return every[: len(page)], every[len(page) :]


def sort_rows(counts: Counts) -> Rows:
    """The rows by table, in the order of their keys."""
    rows: dict[Table, list[Group]] = {}
    for (table, *head), found in sorted(counts.items(), key=lambda one: one[0][1:]):
        lasts = sorted(found)
        of_lasts = list(map(found.__getitem__, lasts))
        rows.setdefault(table, []).append(Group(head, lasts, of_lasts))
    return list(rows.items())


@lru_cache(maxsize=1024)
def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
