"""Questions about the archive over HTTP: answered at once, or by a report that a worker makes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.reading.journeys import snapshot
from pipeline.reading.reports import reports
from pipeline.web.api import archive_questions
from tests.helpers.journeys.archive import put
from tests.helpers.support import NOW, Workers, eventually
from tests.integration.web.api.conftest import Api

RANGE = {"from": "2025-03-01", "to": "2025-03-31"}
FUNNEL = {"step": ["view", 'buy[plan="pro"]'], "window": "1h", **RANGE}


@pytest.fixture
def archived(api: Api) -> Api:
    at = NOW + timedelta(seconds=5)
    put(
        api.dependencies.services,
        [
            ("view", NOW, "u1", None),
            ("view", NOW, "u2", None),
            ("buy", at, "u1", '{"plan":"pro"}'),
        ],
    )
    return api


def test_a_small_funnel_is_answered_at_once(archived: Api) -> None:
    answer = archived.reader.get("/api/stats/funnel", params=FUNNEL)

    assert answer.status_code == 200
    assert [(step["users"], step["median_s"]) for step in answer.json()["steps"]] == [
        (2, None),
        (1, 5.0),
    ]
    again = archived.reader.get(
        "/api/stats/funnel", params=FUNNEL, headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status_code == 304


def test_a_breakdown_is_a_table_too(archived: Api) -> None:
    params = {"event_type": "buy", "property": "plan", "where": "plan exists", **RANGE}

    answer = archived.reader.get("/api/stats/breakdown", params=params | {"format": "csv"})

    assert answer.text.splitlines() == ["value,count", "pro,1"]
    params = {"event_type": "view", "fresh": "true", **RANGE}
    found = archived.reader.get("/api/stats/breakdown", params=params).json()
    assert found == {"count": 2, "users": 2, "as_of": None}


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("funnel", {"step": ["view", "buy[plan=pro]"]}, "step"),
        ("funnel", {"step": ["view", "buy"], "window": "91d"}, "window"),
        ("funnel", {"step": ["view"]}, "step"),
        ("breakdown", {"event_type": "buy", "where": "plan ="}, "where"),
    ],
)
def test_what_has_no_answer_is_refused_by_name(
    api: Api, path: str, params: dict[str, object], field: str
) -> None:
    answer = api.reader.get(f"/api/stats/{path}", params=params)  # type: ignore[arg-type]

    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field


def test_too_many_reports_of_a_token_are_refused(
    archived: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_questions, "MOST_ROWS_AT_ONCE", -1)
    monkeypatch.setattr(archive_questions, "ask_for_report", lambda *_: None)
    monkeypatch.setattr(reports, "MOST_WAITING_OF_ONE", 1)
    params = {"event_type": "view", **RANGE}
    assert archived.reader.get("/api/stats/breakdown", params=params).status_code == 202

    answer = archived.reader.get("/api/stats/funnel", params=FUNNEL)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "30")
    assert archived.reader.get("/api/stats/breakdown", params=params).status_code == 202


def test_a_question_that_reads_too_much_says_what_to_narrow(
    archived: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MOST_ROWS", -1)

    answer = archived.reader.get("/api/stats/funnel", params=FUNNEL)

    assert answer.status_code == 422
    assert "ask about fewer days" in answer.json()["error"]["message"]


def test_a_large_question_becomes_a_report_that_a_worker_makes(
    archived: Api, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_questions, "MOST_ROWS_AT_ONCE", -1)

    accepted = archived.reader.get("/api/stats/funnel", params=FUNNEL)

    assert accepted.status_code == 202
    assert accepted.json() | {"report": ""} == {
        "report": "",
        "state": "waiting",
        "progress": 0.0,
        "result": None,
        "reason": None,
    }
    where = accepted.headers["Location"]
    assert where == f"/api/reports/{accepted.json()['report']}"
    workers.start("flush")
    done = eventually(
        lambda: (found := archived.reader.get(where).json())["state"] == "done" and found
    )
    assert [step["users"] for step in done["result"]["steps"]] == [2, 1]
    # The question itself is answered from the report now.
    again = archived.reader.get("/api/stats/funnel", params=FUNNEL)
    assert (again.status_code, again.json()) == (200, done["result"])
    table = archived.reader.get(where, params={"format": "csv"}).text
    assert table.splitlines()[1].startswith("view,2,")


def test_retention_with_conditions_is_of_the_archive(archived: Api) -> None:
    params = {"start": "view", "return": 'buy[plan="pro"]', "by": "month", **RANGE}

    answer = archived.reader.get("/api/stats/retention", params=params)

    assert answer.json() == {
        "start": "view",
        "return": 'buy[plan="pro"]',
        "by": "month",
        "cohorts": [{"start": "2025-03-01", "users": 2, "returned": [1]}],
        "as_of": None,
    }


def test_a_report_that_is_not_there_says_so(api: Api) -> None:
    answer = api.reader.get("/api/reports/00000000-0000-0000-0000-000000000000")

    assert answer.status_code == 404
    assert "ask again" in answer.json()["error"]["message"]
