"""The Pipeline page, and the page that asks before dead letters are replayed or dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import Route

from pipeline.upkeep.condition.findings import explain_outage, find_risks, summarise
from pipeline.upkeep.dead_letter_groups import find_group, list_groups, list_letters
from pipeline.upkeep.dead_letters import count_waiting
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.page import Asked, Page, Sources
from pipeline.web.dashboard.pipeline.actions import LETTERS_PATH, PATH, create_actions
from pipeline.web.dashboard.pipeline.stages import make_table, show_stage
from pipeline.web.errors import InvalidParameter
from pipeline.web.pipeline_status import Over, PipelineStatus, StatusReader

_MOST_GROUPS = 50
_LETTERS_SHOWN = 5
_BODY_SHOWN = 500
_MOST_WORKERS = 50
_OVER: dict[str, Over] = {"": "hour", "hour": "hour", "day": "day"}
_DOINGS = ("replay", "drop")


class PipelinePage:
    """Reads the page."""

    def __init__(self, reader: StatusReader) -> None:
        self._reader = reader

    def read(self, sources: Sources, asked: Asked) -> Mapping[str, Any]:
        """What the page shows, or the part that is asked for."""
        over = _OVER.get(asked.query.get("over", ""))
        if over is None:
            raise InvalidParameter("over", "must be hour or day, or left out")
        found = self._reader.read(over)
        values: dict[str, Any] = {
            "over": over,
            "explain_outage": explain_outage,
            "summary": summarise(found.faults),
            "faults": found.faults,
            "risks": find_risks(found.status["discarding_workers"]),
            "found": found,
            "books": found.status["books"],
            "workers": found.workers[:_MOST_WORKERS],
            "more_workers": max(0, len(found.workers) - _MOST_WORKERS),
            "log": found.status["event_log"],
            "stages": [show_stage(one, over) for one in found.stages],
            "table": make_table(found.stages, found.stretches, asked.state.tz),
        }
        if asked.wants("letters"):
            values |= _read_letters(sources, found)
        return values


def _read_letters(sources: Sources, found: PipelineStatus) -> dict[str, Any]:
    services = sources.services
    waiting = count_waiting(services.redis, services.keys)
    # Where Postgres stands still, it is not asked a second time.
    groups = list_groups(services.engine, _MOST_GROUPS) if found.stored is not None else None
    return {"groups": groups, "letters_waiting": waiting, "letters_path": LETTERS_PATH}


def read_letters(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """What the page shows that asks before dead letters of a group are replayed or dropped."""
    doing = asked.query.get("do", "")
    if doing not in _DOINGS:
        raise InvalidParameter("do", f"must be {' or '.join(_DOINGS)}")
    services = sources.services
    group = find_group(services.engine, asked.query.get("group", ""))
    bodies: list[str] = []
    # They may name users by ids of which all else shows pseudonyms.
    if group is not None and asked.viewer.may_operate:
        letters = list_letters(services.engine, group.id, _LETTERS_SHOWN)
        bodies = [_shorten(one.body.decode(errors="backslashreplace")) for one in letters]
    return {"group": group, "do": doing, "bodies": bodies, "pipeline_path": PATH}


def _shorten(text: str) -> str:
    return text if len(text) <= _BODY_SHOWN else f"{text[:_BODY_SHOWN]}…"


def create_pipeline_routes(dashboard: Dashboard, user_id_secret: str) -> Sequence[Route]:
    """The pages and their forms. `user_id_secret` is what replayed events' users are pseudonymised
    with; empty: they are not."""
    page = PipelinePage(StatusReader(dashboard.sources.services))
    return [
        dashboard.create_page(
            Page(
                path=PATH,
                title="Pipeline",
                template="pipeline/pipeline.html",
                read=page.read,
                parameters=("over",),
                needs_postgres=False,
            )
        ),
        dashboard.create_page(
            Page(
                path=LETTERS_PATH,
                title="Dead letters",
                template="pipeline/letters.html",
                read=read_letters,
                parameters=("group", "do"),
                is_in_navigation=False,
            )
        ),
        *(dashboard.create_action(one) for one in create_actions(user_id_secret)),
    ]
