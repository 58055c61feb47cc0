"""Sending turned off: events are checked, and recorded or dropped; nothing is connected."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, group
from celery.result import AsyncResult

import pipeline
from pipeline import AsyncTracker, Event, Tracker, track_event, track_events
from pipeline.errors import InvalidConfiguration, InvalidEvent
from pipeline.producer import app as producer
from pipeline.producer import settings as producer_settings
from pipeline.producer import withheld
from pipeline.producer.settings import ProducerSettings
from tests.helpers.processes import run_python

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "sending" / "testing.md"
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Any connection is an error; where events go is not even known."""
    of_tests_before = set(threading.enumerate())  # such as one that asks a server until it answers

    def refuse(*_: Any) -> None:
        if threading.current_thread() in of_tests_before:
            raise ConnectionRefusedError
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = producer_settings._chosen
    pipeline.configure(ProducerSettings(data_dir=Path("nowhere")))
    yield
    producer_settings._chosen = before
    producer_settings.current_settings.cache_clear()


@pytest.fixture
def recorded() -> Iterator[list[Event]]:
    with withheld.record() as events:
        yield events


def send_in_every_way() -> list[object]:
    """Sends events of the types e0 to e11; returns what the calls returned."""
    return [
        track_event.delay("e0", "u0", {"a": 1}, AT, "id0"),
        track_event.apply_async(("e1",), {"user_id": "u1"}, task_id="task-1", countdown=5),
        track_event.apply_async(("e2",), retry=False, shadow="another"),
        track_event.s("e3", user_id="u3").delay(),
        track_event.si("e4").apply_async(),
        track_events.delay([{"event_type": "e5"}, {"event_type": "e6", "user_id": "u6"}]),
        track_event("e7", user_id="u7"),
        track_event.apply(("e8",)),
        group(track_event.s("e9"), track_event.s("e10")).apply_async(),
        (track_event.s("e11") | track_event.si("never")).apply_async(),
    ]


def test_every_way_of_sending_is_recorded_in_order(recorded: list[Event]) -> None:
    results = send_in_every_way()
    assert [event.event_type for event in recorded] == [f"e{number}" for number in range(12)]
    assert recorded[0] == Event("e0", AT, "u0", {"a": 1}, "id0")
    assert recorded[6].user_id == "u6"
    assert abs((recorded[1].timestamp - datetime.now(UTC)).total_seconds()) < 60
    assert isinstance(results[0], AsyncResult)
    assert results[1] == AsyncResult("task-1", backend=results[0].backend)
    assert results[0].id != results[3].id


def test_an_eager_application_is_recorded_too(recorded: list[Event]) -> None:
    app = Celery("theirs")
    app.conf.task_always_eager = True
    app.set_current()
    try:
        track_event.delay("sale", user_id="u")
        with Tracker() as tracker:
            tracker.track("view")
    finally:
        app.close()
        producer.app.set_current()
    assert [event.event_type for event in recorded] == ["sale", "view"]


def test_what_trackers_take_is_recorded_at_once_and_needs_no_thread(
    recorded: list[Event], tmp_path: Path
) -> None:
    tracker = Tracker(when_full="spool", spool_dir=tmp_path / "spool")
    for number in range(3):
        tracker.track("view", "u", {"number": number}, AT, f"id{number}")
        track_event.delay("sale")
    assert tracker.track_many([{"event_type": "many"}] * 2) == 2
    tracker.flush()
    tracker.close()
    assert [event.event_type for event in recorded] == ["view", "sale"] * 3 + ["many"] * 2
    assert recorded[4] == Event("view", AT, "u", {"number": 2}, "id2")
    assert not (tmp_path / "spool").exists()
    with pytest.raises(RuntimeError, match="closed"):
        tracker.track("view")


def test_async_trackers_are_recorded_at_once(recorded: list[Event]) -> None:
    async def test() -> None:
        async with AsyncTracker() as tracker:
            await tracker.track("view", "u", {"path": "/"})
            assert recorded[0].properties == {"path": "/"}
            await tracker.flush()

    asyncio.run(test())


def test_arguments_are_checked_while_nothing_is_sent(recorded: list[Event]) -> None:
    for call in (
        lambda: track_event.delay(""),
        lambda: track_events.delay([{"event_type": "x", "unknown": 1}]),
        lambda: track_event("x", properties=[1]),
        lambda: Tracker().track("x", user_id=object()),
    ):
        with pytest.raises(InvalidEvent):
            call()
    with pytest.raises(TypeError):
        track_event.delay()
    assert recorded == []


def test_blocks_may_be_nested_and_a_configuration_inside_sends_nothing() -> None:
    with withheld.record() as outer:
        track_event.delay("one")
        with withheld.record() as inner:
            pipeline.configure(ProducerSettings(redis_url="redis://127.0.0.1:1/0"))
            track_event.delay("two")
        track_event.delay("three")
    assert [event.event_type for event in outer] == ["one", "three"]
    assert [event.event_type for event in inner] == ["two"]
    assert producer_settings.current_settings().enabled
    assert producer_settings.current_settings().redis_url == "redis://127.0.0.1:1/0"


def test_a_switch_turns_sending_off_and_on_again() -> None:
    pipeline.configure(enabled=False)
    send_in_every_way()
    with Tracker() as tracker:
        tracker.track("view")
    pipeline.configure(enabled=True)
    with pytest.raises(InvalidConfiguration):
        track_event.delay("sale")


@pytest.mark.parametrize("text", ["0", "false", "No", " off "])
def test_the_environment_turns_sending_off(text: str) -> None:
    assert not ProducerSettings.from_environment({"ANALYTICS_ENABLED": text}).enabled
    assert ProducerSettings.from_environment({"ANALYTICS_ENABLED": "1"}).enabled
    with pytest.raises(InvalidConfiguration, match="ANALYTICS_ENABLED=maybe: is neither"):
        ProducerSettings.from_environment({"ANALYTICS_ENABLED": "maybe"})


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "test_shop.py").write_text(blocks[0])
    (tmp_path / "conftest.py").write_text(blocks[1])
    (tmp_path / "test_switch.py").write_text(
        f"{blocks[2]}\npipeline.configure(enabled=True)\n"
        "def test_the_fixture_is_everywhere():\n"
        "    pipeline.track_event.delay('x')\n"
    )
    options = ("-q", "-p", "pipeline.producer.pytest_plugin", "-p", "no:cacheprovider")
    run = run_python("-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path))
    assert "2 passed" in run.stdout, run.stdout + run.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("celery", "-A", "tasks", "worker", "-P", "solo"),
        ("celery", "-A", "tasks", "beat", "--pidfile="),
        ("pipeline.cli", "web"),
        ("pipeline.cli", "track", "page_view"),
        ("pipeline.cli", "up"),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_what_sends_or_counts_refuses_to_start(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    environment = {
        "ANALYTICS_ENABLED": "0",
        "ANALYTICS_REDIS_URL": "redis://127.0.0.1:1/0",
        "ANALYTICS_POSTGRES_URL": "postgresql://u:p@127.0.0.1:1/x",
        "ANALYTICS_DATA_DIR": str(tmp_path),
    }
    run = run_python("-m", *arguments, environment=environment)
    assert run.returncode != 0
    assert "ANALYTICS_ENABLED=0 is for the tests of applications" in run.stderr.splitlines()[-1]


def test_the_plugin_imports_nothing_before_it_is_asked() -> None:
    code = (
        "import sys, pipeline.producer.pytest_plugin, json;"
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in ('celery', 'redis', "
        "'kombu', 'msgspec') or m.startswith('pipeline.event')]))"
    )
    assert json.loads(run_python("-c", code).stdout) == []
