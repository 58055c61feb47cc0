"""The page of annotations, and the forms that add, change and delete one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from starlette.routing import Route

from pipeline.access.access_key import AccessKey
from pipeline.errors import InvalidEntry, UnsuitableTimeZone
from pipeline.reading.series.periods import find_zone
from pipeline.sharing.annotations import MOST_CHARACTERS, Annotations
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.formats import isolate
from pipeline.web.dashboard.page import Action, Asked, Page, Sources
from pipeline.web.errors import InvalidParameter

PATH = "/dashboard/annotations"
ROWS = 50
_SHOWN_CHARACTERS = 60


def read_annotations(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """The annotations, the latest first, and the one that is to be changed."""
    kept = Annotations(sources.services.engine)
    edited = None
    if text := asked.query.get("edit", ""):
        edited = kept.find(_read_id("edit", text))
    offset = (asked.state.page - 1) * ROWS
    now = asked.now.astimezone(asked.state.tz)
    return {
        "annotations": kept.list_newest(most=ROWS, offset=offset),
        "in_all": kept.count(),
        "rows": ROWS,
        "edited": edited,
        "is_gone": bool(text) and edited is None,
        "at": _write(edited.at.astimezone(asked.state.tz) if edited else now),
        "longest": MOST_CHARACTERS,
        "write_moment": lambda at: f"{at.astimezone(asked.state.tz):%Y-%m-%d %H:%M}",
    }


def add_annotation(sources: Sources, viewer: AccessKey, form: Mapping[str, str]) -> str:
    """Keep a note; a repeat adds none."""
    kept = Annotations(sources.services.engine)
    try:
        added = kept.add(_read_moment(form), form.get("text", ""), viewer.id)
    except InvalidEntry as error:
        raise InvalidParameter(error.field, error.reason) from error
    return f"“{_shorten(added.text)}” is on the charts now."


def change_annotation(sources: Sources, viewer: AccessKey, form: Mapping[str, str]) -> str:
    """Give a note another moment and text."""
    kept = Annotations(sources.services.engine)
    wanted = _read_id("id", form.get("id", ""))
    try:
        changed = kept.change(wanted, _read_moment(form), form.get("text", ""), viewer.id)
    except InvalidEntry as error:
        raise InvalidParameter(error.field, error.reason) from error
    if changed is None:
        return "The annotation was deleted before; nothing was changed."
    return f"“{_shorten(changed.text)}” was changed."


def delete_annotation(sources: Sources, _: AccessKey, form: Mapping[str, str]) -> str:
    """Delete a note. May be repeated."""
    Annotations(sources.services.engine).remove(_read_id("id", form.get("id", "")))
    return "The annotation was deleted."


def _read_id(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidParameter(name, f"{text[:80]!r} is no id of an annotation")
    return int(text)


def _read_moment(form: Mapping[str, str]) -> datetime:
    """The moment of the form: a day or a time of the zone that stands beside it."""
    text = form.get("at", "").strip()
    try:
        tz = ZoneInfo(find_zone(form.get("zone", "") or "UTC").key)
    except UnsuitableTimeZone as error:
        raise InvalidParameter("zone", str(error)) from error
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=tz)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidParameter(
            "at", f"{text[:80]!r} is no time; write it as 2026-03-14T12:00"
        ) from error


def _write(at: datetime) -> str:
    """As a field of a form has it."""
    return f"{at:%Y-%m-%dT%H:%M}"


def _shorten(text: str) -> str:
    is_short = len(text) <= _SHOWN_CHARACTERS
    return isolate(text) if is_short else f"{isolate(text[:_SHOWN_CHARACTERS])}…"


ANNOTATIONS = Page(
    path=PATH,
    title="Annotations",
    template="sharing/annotations.html",
    read=read_annotations,
    parameters=("edit",),
    is_in_navigation=False,
)


def create_annotation_routes(dashboard: Dashboard) -> Sequence[Route]:
    """The page and its forms."""
    actions = (
        ("add", add_annotation),
        ("change", change_annotation),
        ("delete", delete_annotation),
    )
    return [
        dashboard.create_page(ANNOTATIONS),
        *(
            dashboard.create_action(Action(f"{PATH}/{name}", "may_edit", act, PATH))
            for name, act in actions
        ),
    ]
