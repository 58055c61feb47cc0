"""Annotations and saved views on the dashboard, and who may change them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import httpx
import pytest

from pipeline.event.model import Event
from pipeline.services import Services
from pipeline.sharing.annotations import Annotations
from pipeline.sharing.saved_views import SavedViews
from tests.helpers.support import count_events
from tests.integration.web.dashboard.conftest import DashboardSite

ADD = "/dashboard/annotations/add"
NASTY = '"><script>alert(1)</script>'


def post(site: DashboardSite, path: str, **form: str) -> httpx.Response:
    return site.operator.post(path, data=form, headers={"Origin": site.origin})


@pytest.fixture
def events(services: Services) -> None:
    now = datetime.now(UTC)
    count_events(services, Event.create("view", "u", now=now))


def test_a_note_is_on_the_charts_where_it_was_written(
    site: DashboardSite, services: Services, events: None
) -> None:
    today = datetime.now(UTC).date()
    written = post(site, ADD, at=f"{today}T00:00", text=NASTY, back="/dashboard?range=7d")
    assert (written.status_code, written.headers["location"]) == (303, "/dashboard?range=7d")
    for path in ("/dashboard?range=7d", "/dashboard/type?type=view", "/dashboard/annotations"):
        page = site.viewer.get(path).text
        assert "&#34;&gt;&lt;script&gt;alert(1)" in page, path
        assert "<script>alert" not in page
    marks = re.findall(r'<g class="mark"><title>', site.viewer.get("/dashboard?range=7d").text)
    assert len(marks) == 2  # of the wide drawing and of the narrow one
    yesterday = site.viewer.get("/dashboard?range=yesterday").text
    assert 'class="mark"><title>' not in yesterday


def test_the_time_of_a_note_is_of_the_zone_of_the_page(
    site: DashboardSite, services: Services
) -> None:
    post(site, ADD, at="2026-03-14T13:00", zone="Europe/Berlin", text="x")
    note = Annotations(services.engine).list_newest()[0]
    assert note.at == datetime(2026, 3, 14, 12, tzinfo=UTC)
    page = site.operator.get(f"/dashboard/annotations?zone=Europe/Berlin&edit={note.id}").text
    assert 'value="2026-03-14T13:00"' in page
    moved = "/dashboard/annotations/change"
    post(site, moved, id=f"{note.id}", at="2026-03-15T12:00", zone="UTC", text="y")
    found = Annotations(services.engine).find(note.id)
    assert found is not None
    assert (found.text, found.at.day) == ("y", 15)
    post(site, "/dashboard/annotations/delete", id=f"{note.id}")
    assert Annotations(services.engine).count() == 0


@pytest.mark.parametrize(
    ("path", "form"),
    [
        (ADD, {"at": "x", "text": "x"}),
        (ADD, {"at": "2026-03-14", "text": ""}),
        (ADD, {"at": "2026-03-14", "text": "x", "zone": "Berlin"}),
        ("/dashboard/annotations/delete", {"id": "-1"}),
        ("/dashboard/views/save", {"name": "x", "url": "javascript:alert(1)"}),
        ("/dashboard/views/rename", {"id": "1", "name": ""}),
    ],
)
def test_a_wrong_form_says_what_is_wrong(
    site: DashboardSite, path: str, form: dict[str, str]
) -> None:
    assert post(site, path, **form).status_code == 422


def test_who_may_only_read_changes_nothing(site: DashboardSite, services: Services) -> None:
    form, headers = {"at": "2026-03-14", "text": "x"}, {"Origin": site.origin}
    assert site.viewer.post(ADD, data=form, headers=headers).status_code == 403
    assert site.stranger.post(ADD, data=form, headers=headers).status_code == 303
    elsewhere = {"Origin": "https://evil.example"}
    assert site.operator.post(ADD, data=form, headers=elsewhere).status_code == 403
    assert Annotations(services.engine).count() == 0
    assert "Annotate" not in site.viewer.get("/dashboard").text
    assert 'action="/dashboard/annotations' not in site.viewer.get("/dashboard/annotations").text


def test_a_view_is_saved_in_the_menu_of_every_page(site: DashboardSite, services: Services) -> None:
    url = "/dashboard/funnels?step1=view&step2=buy"
    saved = post(site, "/dashboard/views/save", name=NASTY, url=url, back=url)
    assert saved.headers["location"] == url
    link = 'href="/dashboard/funnels?step1=view&amp;step2=buy"'
    for path in ("/dashboard/explore", "/dashboard/views"):
        page = site.viewer.get(path).text
        assert link in page, path
        assert "<script>alert" not in page
    view = SavedViews(services.engine).list_all()[0]
    post(site, "/dashboard/views/rename", id=f"{view.id}", name="Sales")
    assert "Sales</a>" in site.viewer.get("/dashboard").text
    post(site, "/dashboard/views/delete", id=f"{view.id}")
    assert SavedViews(services.engine).list_all() == []


def test_a_form_leads_to_pages_of_ours_only(site: DashboardSite) -> None:
    for back in ("https://evil.example/?x=1", "//evil.example", "/dashboard/sign-out", "/api"):
        answer = post(site, ADD, at="2026-03-14", text="x", back=back)
        assert answer.headers["location"].partition("?")[0] == "/dashboard/annotations"
