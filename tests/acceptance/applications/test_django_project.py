"""A project of Django with a Celery app: its events are sent when its transactions commit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import redis

from tests.helpers.support import ROOT, arguments, environment_without_settings, sent

_SETTINGS = """
SECRET_KEY = "tests"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
"""

_CELERY = """
from celery import Celery

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""

_SEND = """
from pipeline import track_event, track_events  # before Django and the project's Celery app
from pipeline.errors import InvalidEvent, OptionRefused

import threading
import django

django.setup()

import project.celery
from celery import current_app
from django.db import transaction

def names_of_apps():
    names.append(current_app.main)

names = []
thread = threading.Thread(target=names_of_apps)
thread.start()
thread.join()
assert names == ["project"], names

with transaction.atomic():
    track_event.delay_on_commit("committed", user_id="u1")
    track_event.delay("at once")
    track_events.apply_async_on_commit(([{"event_type": "both"}] * 2,))
    track_event.apply_async_on_commit(("later",), countdown=60)
    for refused, error in (
        (lambda: track_event.delay_on_commit(""), InvalidEvent),
        (lambda: track_event.apply_async_on_commit(("a",), queue="b"), OptionRefused),
    ):
        try:
            refused()
        except error:
            continue
        raise SystemExit(f"not refused with {error}")
try:
    with transaction.atomic():
        track_event.delay_on_commit("rolled back")
        raise KeyError
except KeyError:
    pass
track_event.delay_on_commit("without a transaction")
"""


def test_events_are_sent_when_the_transaction_commits(
    client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    for name, text in (
        *(("project/__init__.py", ""), ("project/settings.py", _SETTINGS)),
        *(("project/celery.py", _CELERY), ("shop/__init__.py", "")),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    variables = {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "ANALYTICS_REDIS_URL": redis_url,
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _SEND],
        cwd=tmp_path,
        env=environment_without_settings() | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    messages = sent(client)
    types = [
        args if isinstance(args[0], str) else len(args[0]) for args, _ in map(arguments, messages)
    ]
    assert types == [["at once"], ["committed"], 2, ["later"], ["without a transaction"]]
    at_once, committed = (arguments(message)[1]["timestamp"] for message in messages[:2])
    assert committed <= at_once
    assert messages[3]["headers"]["eta"]
