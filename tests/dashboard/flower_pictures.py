"""The pictures of Flower in the documentation: of workers that have just counted, flushed and
archived."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from celery import Celery
from playwright.sync_api import Browser

from pipeline.access.flower_login import load_flower_login
from pipeline.contract import ARCHIVE_EVENTS, EVENTS_QUEUE, FLUSH_COUNTERS, FLUSH_QUEUE, TRACK_EVENT
from tests.dashboard.stage import DashboardStage
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import ROOT, eventually

FOLDER = ROOT / "docs/guides/operating/pictures"
PAGES = {"flower-workers": "/workers", "flower-broker": "/broker", "flower-tasks": "/tasks"}
_SIZE = {"width": 1280, "height": 720}
_EVENTS, _WAITING = 2_000, 120
_WAIT_MS = 30_000


def take_pictures(
    browser: Browser, stage: DashboardStage, names: Sequence[str], shrink: Callable[[bytes], bytes]
) -> None:
    """Start Flower, have the workers do something, and take these pictures."""
    workers, port = stage.workers, free_port()
    workers.celery("flower", "flower", f"--port={port}", "--logging=warning")
    login = load_flower_login(Path(workers.environment["ANALYTICS_DATA_DIR"]))
    context = browser.new_context(
        viewport=_SIZE,  # type: ignore[arg-type]
        color_scheme="light",
        http_credentials={"username": login.user, "password": login.password},
    )
    page = context.new_page()
    where = f"http://127.0.0.1:{port}"
    eventually(lambda: _answers(page, where), what="Flower does not answer")
    page.goto(f"{where}/workers")
    page.wait_for_selector("tbody tr:nth-child(2)", timeout=_WAIT_MS)  # both workers send events
    _work(stage)
    page.wait_for_timeout(5_000)  # two heartbeats, with the numbers
    for name in names:
        page.goto(where + PAGES[name])
        page.wait_for_timeout(1_500)  # its tables come by a script
        file = FOLDER / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(shrink(page.screenshot()))
        sys.stdout.write(f"{file}  {file.stat().st_size // 1024} kB\n")
    context.close()


def _answers(page: object, where: str) -> bool:
    try:
        return bool(page.goto(f"{where}/healthcheck").ok)  # type: ignore[attr-defined]
    except Exception:  # it does not listen yet
        return False


def _work(stage: DashboardStage) -> None:
    """Have events counted, flushed and archived, and then some wait in the queue."""
    client = Celery(broker=stage.workers.environment["ANALYTICS_REDIS_URL"])
    for number in range(_EVENTS):
        client.send_task(TRACK_EVENT, ["page_view", f"u{number % 7}"], queue=EVENTS_QUEUE)
    eventually(lambda: stage.services.queue_depth() == 0)
    for task in (FLUSH_COUNTERS, ARCHIVE_EVENTS) * 2:
        client.send_task(task, queue=FLUSH_QUEUE)
    client.control.cancel_consumer(EVENTS_QUEUE, reply=True)
    for number in range(_WAITING):
        client.send_task(TRACK_EVENT, ["page_view", f"u{number % 7}"], queue=EVENTS_QUEUE)
