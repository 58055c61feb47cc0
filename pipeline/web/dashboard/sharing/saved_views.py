"""Saved views: the page that lists them, and the forms that save, rename and delete one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import Route

from pipeline.access.access_key import AccessKey
from pipeline.errors import InvalidEntry
from pipeline.sharing.saved_views import MOST_NAME_CHARACTERS, SavedViews
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.formats import isolate
from pipeline.web.dashboard.page import Action, Asked, Page, Sources
from pipeline.web.errors import InvalidParameter

PATH = "/dashboard/views"


def read_saved_views(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """The names and addresses."""
    return {
        "all_views": SavedViews(sources.services.engine).list_all(),
        "longest": MOST_NAME_CHARACTERS,
    }


def save_view(sources: Sources, viewer: AccessKey, form: Mapping[str, str]) -> str:
    """Keep the address under the name; that of another view with the name is replaced."""
    views = SavedViews(sources.services.engine)
    try:
        saved = views.save(form.get("name", ""), form.get("url", ""), viewer.id)
    except InvalidEntry as error:
        raise InvalidParameter(error.field, error.reason) from error
    return f"This view is saved as “{isolate(saved.name)}”."


def rename_view(sources: Sources, viewer: AccessKey, form: Mapping[str, str]) -> str:
    """Give a view another name."""
    views, wanted = SavedViews(sources.services.engine), _read_id(form)
    try:
        was_there = views.rename(wanted, form.get("name", ""), viewer.id)
    except InvalidEntry as error:
        raise InvalidParameter(error.field, error.reason) from error
    return "The view was renamed." if was_there else "The view was deleted before."


def delete_view(sources: Sources, _: AccessKey, form: Mapping[str, str]) -> str:
    """Delete a view. May be repeated."""
    SavedViews(sources.services.engine).remove(_read_id(form))
    return "The view was deleted."


def _read_id(form: Mapping[str, str]) -> int:
    text = form.get("id", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidParameter("id", f"{text[:80]!r} is no id of a view")
    return int(text)


SAVED_VIEWS = Page(
    path=PATH,
    title="Saved views",
    template="sharing/saved_views.html",
    read=read_saved_views,
    is_in_navigation=False,
)


def create_saved_view_routes(dashboard: Dashboard) -> Sequence[Route]:
    """The page and its forms."""
    actions = (("save", save_view), ("rename", rename_view), ("delete", delete_view))
    return [
        dashboard.create_page(SAVED_VIEWS),
        *(
            dashboard.create_action(Action(f"{PATH}/{name}", "may_edit", act, PATH))
            for name, act in actions
        ),
    ]
