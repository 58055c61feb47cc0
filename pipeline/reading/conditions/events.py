"""Conditions as filters of raw events."""

from __future__ import annotations

from sqlalchemy import text

from pipeline.event_log.queries import PropertyFilter
from pipeline.reading.conditions.language import parse_condition
from pipeline.reading.conditions.matching import matches, split_properties
from pipeline.reading.conditions.sql import ODD, Binder, write_condition


def filter_properties(where: str) -> PropertyFilter:
    """The events of which the condition is true. Raises `InvalidCondition`."""
    condition = parse_condition(where)
    binder = Binder(":where_{}".format)
    written = write_condition(condition, binder)
    values = {f"where_{name}": value for name, value in binder.values.items()}
    clause = text(f"(CASE WHEN {ODD} THEN TRUE ELSE {written} END)").bindparams(
        **{name: value for name, value in values.items() if f":{name} " in written}
    )
    return PropertyFilter(
        clause,  # type: ignore[arg-type]  # text stands where a condition may
        lambda properties: matches(condition, split_properties(properties)),
    )
