"""Time on page, from what browsers send to its sum, with the settings as they come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from pipeline.services import Services
from tasks.consumer.messages import read_message
from tests.helpers.support import fetch
from tests.helpers.web_process import lately
from tests.helpers.web_server import WebServer

BROWSER = {"Origin": "https://shop.example", "User_Agent": "Mozilla/5.0 (X11) Firefox/140.0"}


def test_the_scripts_and_plausibles_time_on_page_is_summed_by_default(
    web: WebServer, make_services: Callable[..., Services]
) -> None:
    services = make_services()
    ours = {"type": "track", "event": "time_on_page", "properties": {"path": "/", "seconds": 30}}
    assert web.post("/v1/batch", {"batch": [ours]}, **BROWSER).status == 200
    for engaged_ms in (12_345, True, "7000"):
        plausible = {"n": "engagement", "u": "https://shop.example/", "e": engaged_ms}
        assert web.post("/api/event", plausible, **BROWSER).status == 202

    now = datetime.now(UTC)
    reads = [read_message(tag, raw, now) for tag, raw in fetch(services)]
    services.counters.apply([read.delivery for read in reads if read], now)

    found = services.stats.sums.read_sum("time_on_page", "seconds", *lately())
    assert (found.sum, found.count, found.not_numbers) == (42, 2, 0)
