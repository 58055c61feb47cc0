"""The example application, which has its own packages named `tasks` and `config`."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.services import Services
from tests.helpers.support import ROOT, Workers, eventually

SHOP = ROOT / "examples" / "shop"


@pytest.mark.timeout(60)
def test_an_application_with_its_own_tasks_and_config_sends_events_that_are_counted(
    services: Services, workers: Workers, tmp_path: Path
) -> None:
    workers.start("events")
    today = datetime.now(UTC).date()

    shop = subprocess.run(
        [sys.executable, str(SHOP / "main.py")],
        cwd=tmp_path,
        env=workers.environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert shop.returncode == 0, shop.stderr
    assert shop.stderr == ""
    assert "Example shop: thank you, ada" in shop.stdout
    eventually(lambda: services.stats.count("purchase", today, datetime.now(UTC).date()) == 1)
    counts = services.stats.user_counts("ada", today, datetime.now(UTC).date())
    assert {event_type: sum(days.values()) for event_type, days in counts.items()} == {
        "page_view": 3,
        "product_click": 1,
        "purchase": 1,
    }


def test_the_example_imports_nothing_of_ours_but_pipeline() -> None:
    imported = {
        line.split()[1].partition(".")[0]
        for file in SHOP.rglob("*.py")
        for line in file.read_text().splitlines()
        if line.startswith(("import ", "from "))
    }

    assert imported <= {"celery", "config", "pipeline", "tasks", "uuid"}
