"""Annotations and saved views in Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import InvalidEntry
from pipeline.services import Services
from pipeline.sharing import annotations as room
from pipeline.sharing import saved_views
from pipeline.sharing.annotations import Annotations
from pipeline.sharing.saved_views import SavedViews
from tests.helpers.support import NOW


@pytest.fixture
def notes(services: Services) -> Annotations:
    return Annotations(services.engine)


@pytest.fixture
def views(services: Services) -> SavedViews:
    return SavedViews(services.engine)


def test_a_repeat_adds_no_second_note(notes: Annotations) -> None:
    first = notes.add(NOW, " Version 2 ", "token")
    again = notes.add(NOW, "Version 2", "other")

    assert (first.text, first.at, first.changed_by) == ("Version 2", NOW, "token")
    assert again == first
    assert notes.count() == 1


def test_notes_of_a_range_come_with_the_latest_first(notes: Annotations) -> None:
    day = timedelta(days=1)
    for n in range(4):
        notes.add(NOW + n * day, f"note {n}", "token")

    assert [one.text for one in notes.list_newest(NOW + day, NOW + 3 * day)] == ["note 2", "note 1"]
    assert [one.text for one in notes.list_newest(most=2, offset=1)] == ["note 2", "note 1"]


def test_a_note_is_changed_and_deleted(notes: Annotations) -> None:
    one, other = notes.add(NOW, "one", "token"), notes.add(NOW, "other", "token")

    assert notes.change(one.id, NOW, "two", "editor") == notes.find(one.id)
    with pytest.raises(InvalidEntry, match="same annotation"):
        notes.change(one.id, NOW, other.text, "editor")
    assert [notes.remove(one.id), notes.remove(one.id)] == [True, False]
    assert notes.change(one.id, NOW, "two", "editor") is None
    assert notes.find(one.id) is None


def test_what_cannot_be_kept_is_refused(
    notes: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in (datetime(2025, 1, 1), datetime(1969, 1, 1, tzinfo=UTC)):  # noqa: DTZ001
        with pytest.raises(InvalidEntry, match=r"^at: .*(zone|bounds)"):
            notes.add(at, "x", "token")
    monkeypatch.setattr(room, "MOST_KEPT", 0)
    with pytest.raises(InvalidEntry, match="delete old ones"):
        notes.add(NOW, "x", "token")


def test_a_view_is_replaced_by_one_of_its_name(views: SavedViews) -> None:
    views.save("b", "/dashboard?range=7d", "token")
    views.save("A", "/dashboard/funnels?step1=a", "token")
    views.save(" b ", "/dashboard?range=90d", "token")
    found = views.list_all()
    assert [(one.name, one.url) for one in found] == [
        ("A", "/dashboard/funnels?step1=a"),
        ("b", "/dashboard?range=90d"),
    ]
    with pytest.raises(InvalidEntry, match="another view"):
        views.rename(found[0].id, "b", "token")
    assert views.rename(found[0].id, "c", "token")
    assert views.remove(found[0].id)
    assert not views.rename(found[0].id, "d", "token")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "//evil.example/dashboard",
        "https://evil.example/dashboard",
        "/dashboard/../api",
        "/dashboard?x=\n",
        "/dashboards",
        "/dashboard?" + "x" * 9_000,
        "",
    ],
)
def test_a_view_leads_to_the_dashboard_and_nowhere_else(views: SavedViews, url: str) -> None:
    with pytest.raises(InvalidEntry, match=r"^url: "):
        views.save("name", url, "token")


def test_views_are_bounded(views: SavedViews, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_views, "MOST_KEPT", 1)
    views.save("a", "/dashboard", "token")
    views.save("a", "/dashboard?by=day", "token")
    with pytest.raises(InvalidEntry, match="delete some"):
        views.save("b", "/dashboard", "token")
