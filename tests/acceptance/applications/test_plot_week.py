"""`examples/plot_week.py` draws what is counted, from the week that `send_week.py` sends."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import matplotlib.image
import pytest

from pipeline.services import Services
from tests.helpers.applications.tutorials import EXAMPLES, ROOT, read_shop_settings
from tests.helpers.support import Workers
from tests.helpers.web_process import wait_until_consumed

# Runs the script as Python does, and prints how high its bars are.
_PLOT = """
import json, runpy, sys
drawn = runpy.run_path(sys.argv[1], run_name="__main__")
heights = lambda bars: [int(bar.get_height()) for bar in bars]
upper = {bars.get_label(): heights(bars) for bars in drawn["upper"].containers}
print(json.dumps([upper, heights(drawn["lower"].containers[0])]))
"""


@pytest.mark.timeout(60)
def test_the_plot_of_a_week_has_the_numbers_that_are_counted(
    make_services: Callable[..., Services], workers: Workers, tmp_path: Path
) -> None:
    settings = read_shop_settings()
    services = make_services(**{name.lower(): json.loads(text) for name, text in settings.items()})
    workers.start("events", **settings)
    environment = workers.environment | {"PYTHONPATH": f"{ROOT}"}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        ran = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    for _ in range(2):  # what is sent again is not counted again
        sent = run(f"{EXAMPLES}/send_week.py")
        wait_until_consumed(services)
        services.flush()
    by_day, by_hour = json.loads(run("-c", _PLOT, f"{EXAMPLES}/plot_week.py").splitlines()[-1])

    last = datetime.now(UTC).date()
    make_events = runpy.run_path(f"{EXAMPLES}/send_week.py")["make_events"]
    for number in range(6):  # today's events are those until now
        made = Counter(e["event_type"] for e in make_events(last - timedelta(days=6 - number)))
        assert made == {event_type: heights[number] for event_type, heights in by_day.items()}
    assert sent == f"Sent {sum(map(sum, by_day.values()))} events.\n"
    days = last - timedelta(days=6), last
    for event_type, heights in by_day.items():
        counted = [n for _, n in services.stats.series(event_type, *days, by="day")]
        assert heights == counted, event_type
    hours = services.stats.series("page_view", *days, by="hour")
    assert by_hour == [sum(n for _, n in hours[hour::24]) for hour in range(24)]
    assert matplotlib.image.imread(tmp_path / "week.png").shape == (800, 1000, 4)
