"""Annotations over HTTP: listed by every read token, changed by those that may edit."""

from __future__ import annotations

import httpx
import pytest

from tests.integration.web.api.conftest import Api

NOTE = {"at": "2026-03-14T13:00:00+01:00", "text": "=1+1 <script>"}


def test_a_note_is_added_once_listed_and_deleted(api: Api, editor: httpx.Client) -> None:
    first, again = (editor.post("/api/annotations", json=NOTE) for _ in range(2))
    assert (first.status_code, again.json()) == (201, first.json())
    assert first.json()["at"] == "2026-03-14T12:00:00+00:00"

    assert api.reader.get("/api/annotations").json() == {"annotations": [first.json()]}
    of_day = {"from": "2026-03-14", "to": "2026-03-14"}
    assert len(api.reader.get("/api/annotations", params=of_day).json()["annotations"]) == 1
    before = {"from": "2026-03-13", "to": "2026-03-13"}
    assert api.reader.get("/api/annotations", params=before).json() == {"annotations": []}
    table = api.reader.get("/api/annotations?format=csv").text.splitlines()
    assert table[1].split(",")[2] == "'=1+1 <script>"

    path = f"/api/annotations/{first.json()['id']}"
    assert [editor.delete(path).status_code for _ in range(2)] == [204, 204]
    assert api.reader.get("/api/annotations").json() == {"annotations": []}


def test_a_token_that_may_only_read_changes_nothing(api: Api, editor: httpx.Client) -> None:
    note = editor.post("/api/annotations", json=NOTE).json()
    for answer in (
        api.reader.post("/api/annotations", json=NOTE),
        api.forgetter.delete(f"/api/annotations/{note['id']}"),
    ):
        assert answer.status_code == 403
        assert "--allow-edit" in answer.json()["error"]["message"]
    assert len(api.reader.get("/api/annotations").json()["annotations"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b'{"text": "x"}', "at"),
        (b'{"at": "2026-03-14T12:00:00", "text": "x"}', "at"),
        (b'{"at": "1026-03-14T12:00:00Z", "text": "x"}', "at"),
        (b'{"at": "2026-03-14T12:00:00Z", "text": "  "}', "text"),
        (b'{"at": "2026-03-14T12:00:00Z", "text": "a\\u0000"}', "text"),
        (b'{"at": "2026-03-14T12:00:00Z", "text": "x", "more": 1}', "more"),
    ],
)
def test_what_is_no_note_is_refused_by_name(
    api: Api, editor: httpx.Client, body: bytes, field: str
) -> None:
    answer = editor.post("/api/annotations", content=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field


def test_a_large_body_is_not_read_to_its_end(api: Api, editor: httpx.Client) -> None:
    assert editor.post("/api/annotations", content=b"x" * 50_000).status_code == 413
