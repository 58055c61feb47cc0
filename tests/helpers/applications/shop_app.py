"""A Celery application whose tasks surround events; its workers load our tasks if they are to."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain, chord, group

app = Celery(
    "shop",
    broker=os.environ.get("THEIR_BROKER"),
    backend=os.environ.get("THEIR_BACKEND"),
    set_as_current="THEIR_BROKER" in os.environ,
)
app.conf.update(task_default_queue=os.environ.get("THEIR_QUEUE", "celery"), result_expires=60)
if "LOADS_OUR_TASKS" in os.environ:
    app.conf.imports = ("pipeline.producer.celery_tasks",)


@app.task
def pay() -> str:
    return "paid"


@app.task
def fail() -> None:
    raise ValueError("declined")


@app.task(bind=True)
def become_an_event(self: Any, event_type: str) -> None:
    from pipeline import track_event

    raise self.replace(track_event.si(event_type))


@app.task
def note(_results: object, name: str) -> None:
    app.backend.client.rpush("noted", name)


SENT = {
    **dict.fromkeys(("chain", "link", "link_error", "body", "header", "replace"), 1),
    **dict.fromkeys(("first", "middle", "linked"), 1),
    "group": 2,
    "map": 2,
    "chunks": 3,
}
"""How often `send_canvases` sends each type of event."""
NOTED = ["first", "header", "linked", "middle"]
"""What tasks note that come after events, sorted."""


def send_canvases() -> None:
    """Send an event in every way that Celery combines tasks."""
    from pipeline import track_event

    paid = pay.si()
    chain(paid, track_event.si("chain")).apply_async()
    pay.apply_async(link=track_event.si("link"))
    fail.apply_async(link_error=track_event.si("link_error"))
    chain(paid, group(track_event.si("group"), paid)).apply_async()
    group(track_event.si("group"), paid).apply_async()
    chord([paid, paid], track_event.si("body")).apply_async()
    chord([paid, track_event.si("header")], note.s("header")).apply_async()
    chain(paid, track_event.map(["map", "map"])).apply_async()
    chain(paid, track_event.chunks([("chunks",)] * 3, 2)).apply_async()
    become_an_event.delay("replace")
    chain(track_event.si("first"), note.si(None, "first")).apply_async()
    chain(paid, track_event.si("middle"), note.si(None, "middle")).apply_async()
    track_event.apply_async(("linked",), link=note.s("linked"))
