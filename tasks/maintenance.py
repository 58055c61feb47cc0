"""What keeps the pipeline tidy; beat runs each as often as `config/schedule.py` says. All may be
repeated."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.contract import AUDIT, MAINTAIN, MOVE_DEAD_LETTERS, PRUNE, REPAIR_COUNTERS
from pipeline.errors import ServerUnavailable, TooMuchWaiting
from tasks.app import app, services
from tasks.archive import report_audit


@app.task(name=MAINTAIN, shared=False, throws=(ServerUnavailable,))
def maintain() -> None:
    """Make partitions ahead of need; forget old ledger entries."""
    services().maintain(datetime.now(UTC))


@app.task(name=PRUNE, shared=False, throws=(ServerUnavailable,))
def prune() -> int:
    """Drop partitions that are older than the settings say; returns how many."""
    return len(services().prune(datetime.now(UTC).date()).dropped)


@app.task(name=AUDIT, shared=False, throws=(ServerUnavailable, TooMuchWaiting))
def audit() -> int:
    """Compare archive and counters of the last days; returns how many hours and days differ."""
    return report_audit(services(), datetime.now(UTC).date())


@app.task(name=MOVE_DEAD_LETTERS, shared=False, throws=(ServerUnavailable,))
def move_dead_letters() -> int:
    """Move dead letters from Redis to Postgres; returns how many."""
    return services().move_dead_letters()


@app.task(name=REPAIR_COUNTERS, shared=False, throws=(ServerUnavailable,))
def repair_counters() -> int:
    """Make counters pending again whose names are not; returns how many, normally 0."""
    return services().repair_counters()
