"""A Celery application whose tasks track events."""

from __future__ import annotations

import os
import time

from celery import Celery

from tests.helpers.applications.tracked import track

app = Celery("theirs", broker=os.environ["THEIR_BROKER"], backend=os.environ["THEIR_BROKER"])


@app.task
def work(user: str) -> str:
    return track(user)


@app.task
def hang(user: str, seconds: float) -> None:
    track(user)
    time.sleep(seconds)
