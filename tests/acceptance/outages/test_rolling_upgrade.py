"""Tables that are upgraded before the programs: old processes say so, and lose nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline import track_event
from pipeline.postgres.fitness import NEWEST_VERSION, VERSION_TABLE
from pipeline.services import Services
from tests.helpers.support import Workers, eventually, execute, stored_total
from tests.helpers.web_process import WebProcess

LATER = f"{int(NEWEST_VERSION) + 1:04}"
NEWER = f"the database is at version {LATER}, newer than this program, which needs {NEWEST_VERSION}"


def upgrade(services: Services) -> None:
    """As a later migration might."""
    execute(services, "ALTER TABLE analytics_daily RENAME COLUMN count TO events")
    execute(services, f"UPDATE {VERSION_TABLE} SET version_num = '{LATER}'")


def roll_back(services: Services) -> None:
    execute(services, "ALTER TABLE analytics_daily RENAME COLUMN events TO count")
    execute(services, f"UPDATE {VERSION_TABLE} SET version_num = '{NEWEST_VERSION}'")


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("sending")
def test_old_processes_beside_newer_tables_say_so_in_a_line_and_lose_nothing(
    services: Services, workers: Workers
) -> None:
    workers.start("events")
    flusher = workers.start("flush")
    track_event.delay("page_view")
    schedule = str(workers.directory / "schedule")
    beat = workers.celery("beat", "beat", "--pidfile=", "-s", schedule, FLUSH_INTERVAL_S="0.5")
    eventually(lambda: stored_total(services) == 1)

    upgrade(services)
    track_event.delay("page_view")
    eventually(lambda: NEWER in flusher.said(), what="the flush worker says what is wrong")
    track_event.delay("page_view")
    late = workers.start("flush", ready=False)
    assert late.wait(60) == 1
    assert f"analytics: {NEWER}" in late.said()
    web = WebProcess(workers).start()
    eventually(lambda: f"reads refused: {NEWER}" in web.said())
    late_beat = workers.celery("beat2", "beat", "--pidfile=", "-s", f"{schedule}2")
    eventually(lambda: f"will fail: {NEWER}" in late_beat.said())
    assert beat.alive()

    roll_back(services)
    eventually(lambda: stored_total(services) == 3)
    for process in (flusher, late, beat):
        assert "Traceback" not in process.said()
    today = datetime.now(UTC).date()
    assert services.stats.count("page_view", today, today) in (2, 3)  # midnight may have passed
    assert services.claims.open_batches() == []
    assert services.status()["dead_letters"] == 0
