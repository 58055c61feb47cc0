"""The pipeline in an environment full of variables that are meant for other programs: the Celery of
the application, and the services of a Kubernetes namespace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.drivers.command import Analytics
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import environment_without_settings, eventually

pytestmark = pytest.mark.timeout(120)

SEND = """
from celery import signals
from pipeline import track_event, track_events
track_event.delay("plain")
track_event.apply_async(("countdown",), countdown=1)
track_event.apply_async(("with_options",), priority=0)
track_events.delay([{"event_type": "several"}] * 3)
signals.before_task_publish.connect(lambda **_: None, weak=False)
track_event.delay("heard")
"""


def variables_of_others(directory: Path) -> dict[str, str]:
    """Each of them would lead to another broker, or stop the start."""
    elsewhere = f"redis://127.0.0.1:{free_port()}/9"
    (directory / "their_celery.py").write_text(
        f"broker_url = {elsewhere!r}\ntask_always_eager = True\ntask_serializer = 'pickle'\n"
        "beat_schedule = {}\ntask_routes = {'*': {'queue': 'theirs'}}\n"
    )
    return {
        "CELERY_BROKER_URL": elsewhere,
        "CELERY_BROKER_READ_URL": elsewhere,
        "CELERY_BROKER_WRITE_URL": elsewhere,
        "CELERY_RESULT_BACKEND": elsewhere,
        "CELERY_CONFIG_MODULE": "their_celery",
        "CELERY_LOADER": "default",
        "DJANGO_SETTINGS_MODULE": "theirs.settings",
        "BROKER_URL": elsewhere,
        "RESULT_BACKEND": elsewhere,
        "CONFIG_MODULE": "their_celery",
        "FLOWER_PORT": "tcp://10.0.0.3:5555",
        "FLOWER_SERVICE_HOST": "10.0.0.3",
        "FLOWER_PORT_5555_TCP_ADDR": "10.0.0.3",
        "ANALYTICS_PORT": "tcp://10.0.0.1:8080",
        "ANALYTICS_SERVICE_HOST": "10.0.0.1",
        "ANALYTICS_WEB_SERVICE_PORT_HTTP": "8080",
    }


def pending_counters(analytics: Analytics) -> object:
    """What the status says; it asks workers too, by an app that a process has for one server."""
    done = analytics.run("status", "--json")
    assert done.returncode == 0, done.stderr + analytics.said_last()
    status = json.loads(done.stdout)
    return status["pending_counters"]


def test_the_celery_and_the_services_of_others_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analytics = Analytics(
        tmp_path / "home",
        {"FLOWER_PORT": str(free_port()), "WEB_PORT": str(free_port()), "FLUSH_INTERVAL_S": "1"},
    )
    for name, value in variables_of_others(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    up = analytics.up()
    try:
        for name in ("worker events1", "worker flush", "beat", "flower", "web"):
            assert up.pid_of(name)
        subprocess.run(
            [sys.executable, "-c", SEND],
            env=environment_without_settings() | {"ANALYTICS_DATA_DIR": str(analytics.data_dir)},
            cwd=tmp_path,
            check=True,
            timeout=60,
        )
        counts = {"plain": 1, "countdown": 1, "with_options": 1, "several": 3, "heard": 1}
        for event_type, count in counts.items():
            eventually(
                lambda event_type=event_type, count=count: (
                    analytics.json("stats", "count", event_type)["count"] == count
                )
            )
        # Beat asks for flushes, and a worker of ours does them.
        eventually(lambda: pending_counters(analytics) == 0)
    finally:
        up.stop()
