"""What the audit of the last days found, in the log."""

from __future__ import annotations

import logging
from datetime import date, timedelta

from pipeline.services import Services

AUDITED_DAYS = 7
_SHOWN = 20

logger = logging.getLogger(__name__)


def report_audit(services: Services, today: date) -> int:
    """Audit the last days, and log what differs; returns how many hours and days that are."""
    first = today - timedelta(days=AUDITED_DAYS - 1)
    reports = (_report_counts, _report_sums, _report_users, _report_packed)
    return sum(report(services, first, today) for report in reports)


def _report_counts(services: Services, first: date, last: date) -> int:
    found = services.audit(first, last)
    for one in found[:_SHOWN]:
        when = f"{one.day}" if one.hour is None else f"{one.day} {one.hour:02}:00"
        logger.error(
            "audit: %s, %s: %d counted, %d logged, %d in gaps",
            *(one.event_type, when, one.counted, one.logged, one.gap),
        )
    if len(found) > _SHOWN:
        logger.error("audit: and %d more; `analytics audit` lists them", len(found) - _SHOWN)
    return len(found)


def _report_sums(services: Services, first: date, last: date) -> int:
    found = services.audit_sums(first, last)
    for one in found[:_SHOWN]:
        logger.error(
            "audit: %s of %s, %s: %s of %d numbers summed, %s of %d logged, %d sizes",
            *(one.property, one.event_type, one.day, one.counted.sum, one.counted.count),
            *(one.logged.sum, one.logged.count, one.sized),
        )
    if len(found) > _SHOWN:
        logger.error("audit: and %d more sums", len(found) - _SHOWN)
    return len(found)


def _report_users(services: Services, first: date, last: date) -> int:
    found = services.audit_users(first, last)
    for one in found[:_SHOWN]:
        event_type = one.event_type or "any event"
        logger.error(
            "audit: users of %s, %s: %d sealed, %d stored",
            *(event_type, one.day, one.sealed, one.stored),
        )
    if len(found) > _SHOWN:
        logger.error("audit: and %d more of users", len(found) - _SHOWN)
    return len(found)


def _report_packed(services: Services, first: date, last: date) -> int:
    found = services.audit_packed(first, last)
    for one in found[:_SHOWN]:
        logger.error(
            "audit: packed events of %s, %s: %d sealed, %d stored",
            *(one.event_type, one.day, one.sealed, one.stored),
        )
    if len(found) > _SHOWN:
        logger.error("audit: and %d more of packed events", len(found) - _SHOWN)
    return len(found)
