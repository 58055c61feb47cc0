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
    return (
        _report([one.describe() for one in services.audit(first, today)])
        + _report([one.describe() for one in services.audit_sums(first, today)])
        + _report([one.describe() for one in services.audit_users(first, today)])
        + _report([one.describe() for one in services.audit_packed(first, today)])
    )


def _report(lines: list[str]) -> int:
    for line in lines[:_SHOWN]:
        logger.error("audit: %s", line)
    if len(lines) > _SHOWN:
        logger.error("audit: and %d more; `analytics audit` lists them", len(lines) - _SHOWN)
    return len(lines)
