"""Saved views over HTTP: listed by every read token, changed by those that may edit."""

from __future__ import annotations

import httpx
import pytest

from pipeline.sharing.saved_views import MOST_KEPT
from tests.integration.web.api.conftest import Api

VIEW = {"name": "=1+1 <script>", "url": "/dashboard/type?type=a%22b&range=7d"}
PATH = "/api/saved-views"


def test_a_view_is_saved_once_replaced_listed_and_deleted(api: Api, editor: httpx.Client) -> None:
    first, again = (editor.post(PATH, json=VIEW) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert {name: first.json()[name] for name in VIEW} == VIEW
    other = editor.post(PATH, json={**VIEW, "url": "/dashboard?range=28d"}).json()
    assert other["id"] == first.json()["id"]

    listed = api.reader.get(PATH)
    assert listed.json() == {"saved_views": [other]}
    headers = {"If-None-Match": listed.headers["ETag"]}
    assert api.reader.get(PATH, headers=headers).status_code == 304
    table = api.reader.get(f"{PATH}?format=csv").text.splitlines()
    assert table[1].split(",")[1:3] == ["'=1+1 <script>", "/dashboard?range=28d"]

    assert [editor.delete(f"{PATH}/{other['id']}").status_code for _ in range(2)] == [204, 204]
    assert api.reader.get(PATH).json() == {"saved_views": []}


def test_a_token_that_may_only_read_changes_nothing(api: Api, editor: httpx.Client) -> None:
    view = editor.post(PATH, json=VIEW).json()
    for answer in (
        api.reader.post(PATH, json=VIEW),
        api.forgetter.delete(f"{PATH}/{view['id']}"),
    ):
        assert answer.status_code == 403
        assert "--allow-edit" in answer.json()["error"]["message"]
    assert api.stranger.get(PATH).status_code == 401
    assert len(api.reader.get(PATH).json()["saved_views"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b'{"name": "x"}', "url"),
        (b'{"name": " ", "url": "/dashboard"}', "name"),
        (b'{"name": "a\\u0000", "url": "/dashboard"}', "name"),
        (b'{"name": "x", "url": "javascript:alert(1)"}', "url"),
        (b'{"name": "x", "url": "//evil.example/dashboard"}', "url"),
        (b'{"name": "x", "url": "/dashboard\\n"}', "url"),
        (b'{"name": "x", "url": "/dashboard", "more": 1}', "more"),
    ],
)
def test_what_is_no_view_is_refused_by_name(
    api: Api, editor: httpx.Client, body: bytes, field: str
) -> None:
    answer = editor.post(PATH, content=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field
    assert api.reader.get(PATH).json() == {"saved_views": []}


def test_no_more_are_kept_than_may_be(api: Api, editor: httpx.Client) -> None:
    with api.dependencies.services.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO analytics_saved_views (name, url, changed_by, changed_at) "
            f"SELECT n::text, '/dashboard', 'x', now() FROM generate_series(1, {MOST_KEPT}) n"
        )
    assert "delete some" in editor.post(PATH, json=VIEW).json()["error"]["message"]
    assert editor.post(PATH, json={**VIEW, "name": "7"}).status_code == 201
