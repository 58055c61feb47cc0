"""What the audit of the last days found, in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date, timedelta

from pipeline.services import Services

AUDITED_DAYS = 7
_SHOWN = 20

logger = logging.getLogger(__name__)


def report_audit(services: Services, today: date) -> int:
    """Audit the last days, and log what differs; returns how many hours and days that are."""
    first = today - timedelta(days=AUDITED_DAYS - 1)
    parts = (_compare_counts, _compare_sums, _compare_users, _compare_packed)
    return sum(_report(list(part(services, first, today))) for part in parts)


def _report(lines: list[str]) -> int:
    for line in lines[:_SHOWN]:
        logger.error("audit: %s", line)
    if len(lines) > _SHOWN:
        logger.error("audit: and %d more; `analytics audit` lists them", len(lines) - _SHOWN)
    return len(lines)


def _compare_counts(services: Services, first: date, last: date) -> Iterator[str]:
    for one in services.audit(first, last):
        when = f"{one.day}" if one.hour is None else f"{one.day} {one.hour:02}:00"
        yield (
            f"{one.event_type}, {when}: {one.counted} counted, {one.logged} logged, "
            f"{one.gap} in gaps"
        )


def _compare_sums(services: Services, first: date, last: date) -> Iterator[str]:
    for one in services.audit_sums(first, last):
        counted, logged = one.counted, one.logged
        yield (
            f"{one.property} of {one.event_type}, {one.day}: {counted.sum} of {counted.count} "
            f"numbers summed, {logged.sum} of {logged.count} logged, {one.sized} sizes"
        )


def _compare_users(services: Services, first: date, last: date) -> Iterator[str]:
    for one in services.audit_users(first, last):
        what = f"users of {one.event_type or 'any event'}, {one.day}"
        yield f"{what}: {one.sealed} sealed, {one.stored} stored"


def _compare_packed(services: Services, first: date, last: date) -> Iterator[str]:
    for one in services.audit_packed(first, last):
        what = f"packed events of {one.event_type}, {one.day}"
        yield f"{what}: {one.sealed} sealed, {one.stored} stored"
