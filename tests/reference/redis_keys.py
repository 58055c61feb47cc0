"""The page of the Redis keys: the tables of `pipeline.redis.keys`."""

from __future__ import annotations

import re

from pipeline.redis import keys
from tests.reference.markdown import flow, page, table

_ROW = re.compile(r"^\| (.*?) *\|$", re.MULTILINE)


def make() -> str:
    """The page."""
    document = keys.__doc__ or ""
    rows = [re.split(r" *\| ", row) for row in _ROW.findall(document)]
    begins = next(at for at, row in enumerate(rows) if row[0].strip() == "bucket")
    texts = re.split(r"(?:^\|.*\n)+", document, flags=re.MULTILINE)[1:]
    return page(
        "Redis keys",
        "Every Redis key, its type and its lifetime, without the prefix (`ANALYTICS_PREFIX`, "
        "`analytics:` by default). A key without a lifetime is on a short list that a test holds.",
        _table(rows[:begins]),
        flow(texts[0]),
        _table(rows[begins:]),
    )


def _table(rows: list[list[str]]) -> str:
    head, _, *body = rows
    return table(head, body)
