"""Reports: one answer a question, made by whichever worker lives, and kept while it is right."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from pipeline.contract import MAKE_REPORT
from pipeline.errors import QuestionTooLarge, TooManyReports
from pipeline.producer.reports import ask_for_report
from pipeline.reading.journeys.breakdown import BreakdownQuestion
from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.reading.reports import reports
from pipeline.reading.reports.questions import (
    Question,
    answer,
    estimate,
    identify,
    read_question,
    tabulate,
    write_question,
)
from pipeline.services import Services
from tests.helpers.journeys.archive import put
from tests.helpers.support import NOW, TODAY, Workers, count_events, event, eventually, execute

FUNNEL = FunnelQuestion(("a", 'b[p="x"]'), TODAY, TODAY, "1h")
QUESTIONS: list[Question] = [
    FUNNEL,
    FunnelQuestion(("a", "b"), TODAY, TODAY, "2d", True, "p", 5),
    BreakdownQuestion("a", TODAY, TODAY),
    BreakdownQuestion("a", TODAY, TODAY, "p", "q exists", 5),
]


@pytest.fixture
def archived(services: Services) -> Services:
    put(services, [("a", NOW, "u1", None), ("a", NOW, "u2", '{"p":"x","q":1}')])
    return services


def age(services: Services, seconds: float) -> None:
    """Have all reports be older."""
    older = text(
        "UPDATE analytics_reports SET asked_at = asked_at - make_interval(secs => :s), "
        "changed_at = changed_at - make_interval(secs => :s)"
    )
    with services.engine.begin() as connection:
        connection.execute(older, {"s": seconds})


def states(services: Services) -> list[str]:
    return [row[0] for row in execute(services, "SELECT state FROM analytics_reports")]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: type(one).__name__)
def test_a_report_is_the_answer_and_a_table(archived: Services, question: Question) -> None:
    assert read_question(write_question(question)) == question
    report, is_new = archived.reports.ask(question)
    assert (report.state, is_new) == ("waiting", True)
    assert archived.reports.ask(question)[1] is False

    assert archived.make_next_report() is None

    found = archived.reports.find(report.id)
    assert found is not None
    assert found.state == "done"
    here: list[float] = []
    assert found.result == archived.answer(question, here.append)
    assert here == []  # it was there
    columns, rows = tabulate(question, found.result)
    assert {len(row) for row in rows} <= {len(columns)}
    assert estimate(archived.engine, question) <= 2


def test_a_report_is_right_until_something_newer_is_archived(archived: Services) -> None:
    archived.answer(FUNNEL, lambda _: None)
    age(archived, 2 * reports.FRESH_S)
    assert archived.reports.find_current(FUNNEL) is not None

    count_events(archived, event("a", "u3", timestamp=NOW))
    archived.archive_events()

    assert archived.reports.find_current(FUNNEL) is None
    assert archived.answer(FUNNEL, lambda _: None)["steps"][0]["users"] == 3
    count_events(archived, event("a", "u4", timestamp=NOW))
    archived.archive_events()
    assert archived.reports.find_current(FUNNEL) is not None  # for a minute


def test_a_report_that_does_not_move_is_asked_for_again(archived: Services) -> None:
    archived.reports.ask(FUNNEL)
    age(archived, reports.STALE_S + 1)

    assert archived.reports.ask(FUNNEL)[1] is True
    assert archived.reports.ask(FUNNEL)[1] is False


def test_a_question_that_is_too_large_fails_with_the_reason(
    archived: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.reading.journeys.snapshot.MOST_ROWS", -1)
    report, _ = archived.reports.ask(FUNNEL)

    archived.make_next_report()

    found = archived.reports.find(report.id)
    assert found is not None
    assert found.state == "failed"
    assert found.result is None
    assert "ask about fewer days" in str(found.reason)
    assert archived.reports.ask(FUNNEL)[1] is True


def test_a_question_that_takes_too_long_is_refused(archived: Services) -> None:
    with archived.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")

        with pytest.raises(QuestionTooLarge, match=r"in 0\.2 s: ask about fewer days"):
            answer(archived.engine, FUNNEL, timeout_s=0.2)


def test_reports_are_bounded(archived: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_REPORTS", 2)
    for limit in range(1, 5):
        archived.reports.ask(BreakdownQuestion("a", TODAY, TODAY, "p", None, limit))
    assert len(states(archived)) == 2

    age(archived, 86_400 + 1)
    archived.reports.ask(FUNNEL)

    assert states(archived) == ["waiting"]


def test_there_is_no_report_that_was_not_asked_for(services: Services) -> None:
    assert services.make_next_report() is None
    assert services.reports.find(uuid4()) is None


KILLED = """
import os, signal, sys
from pipeline.postgres.engine import postgres_engine
from pipeline.reading.reports import reports

step = sys.argv[2]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if step == "before the answer":
    reports.answer = die
else:
    reports.Reports._end = die
reports.Reports(postgres_engine(sys.argv[1])).make_next()
"""


@pytest.mark.parametrize("step", ["before the answer", "before it is kept"])
def test_a_report_whose_worker_is_killed_is_made_by_the_next(
    archived: Services, postgres_url: str, step: str
) -> None:
    archived.reports.ask(FUNNEL)
    arguments = [sys.executable, "-c", KILLED, postgres_url, step]
    killed = subprocess.run(arguments, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert states(archived) == ["running"]

    archived.make_next_report()

    assert states(archived) == ["done"]
    assert archived.answer(FUNNEL, lambda _: None)["steps"][0]["users"] == 2


def test_a_report_that_workers_are_lost_of_fails_at_last(
    archived: Services, postgres_url: str
) -> None:
    report, _ = archived.reports.ask(FUNNEL)
    arguments = [sys.executable, "-c", KILLED, postgres_url, "before the answer"]
    for _ in range(reports.MOST_TRIES):
        subprocess.run(arguments, check=False, timeout=60)
        assert states(archived) == ["running"]

    archived.make_next_report()

    found = archived.reports.find(report.id)
    assert found is not None
    assert (found.state, found.result) == ("failed", None)
    assert "workers were lost" in str(found.reason)


def ask_for(archived: Services, asked_by: str, limits: range) -> list[Any]:
    questions = [BreakdownQuestion("a", TODAY, TODAY, "p", None, limit) for limit in limits]
    return [archived.reports.ask(question, asked_by)[0].id for question in questions]


def test_who_asks_for_many_reports_is_refused_and_others_are_not(archived: Services) -> None:
    first = ask_for(archived, "greedy", range(1, reports.MOST_WAITING_OF_ONE + 1))

    with pytest.raises(TooManyReports, match="10 reports that you asked for wait"):
        ask_for(archived, "greedy", range(100, 101))

    [other] = ask_for(archived, "other", range(200, 201))
    assert ask_for(archived, "greedy", range(1, 2)) == first[:1]  # it waits already
    archived.make_next_report()
    archived.make_next_report()
    assert [str(_find(archived, one).state) for one in (first[0], other)] == ["done", "done"]
    assert _find(archived, first[1]).state == "waiting"
    assert len(ask_for(archived, "greedy", range(100, 101))) == 1


def test_all_who_ask_are_refused_when_too_many_reports_wait(
    archived: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_WAITING", 2)
    ask_for(archived, "one", range(1, 2))
    ask_for(archived, "two", range(2, 3))

    with pytest.raises(TooManyReports, match="2 reports wait"):
        ask_for(archived, "three", range(3, 4))

    age(archived, 3_601)  # no worker has come; those do not count
    assert len(ask_for(archived, "three", range(3, 4))) == 1


def test_one_report_is_made_at_a_time(archived: Services) -> None:
    ids = ask_for(archived, "one", range(1, 3))
    with archived.engine.begin() as another:
        another.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('analytics:reports'))")

        assert archived.make_next_report() is None
        assert states(archived) == ["waiting", "waiting"]

    assert archived.make_next_report() == ids[1]
    assert archived.make_next_report() is None
    assert states(archived) == ["done", "done"]


def test_workers_make_all_reports_of_one_message(
    archived: Services, sending: None, workers: Workers
) -> None:
    ids = ask_for(archived, "one", range(1, 4))
    ask_for_report(ids[0], archived.keys.prefix)
    workers.start("flush")

    eventually(lambda: states(archived) == ["done"] * 3)


def _find(archived: Services, report_id: Any) -> reports.Report:
    found = archived.reports.find(report_id)
    assert found is not None
    return found


def test_a_report_is_made_though_its_worker_is_killed(
    archived: Services, sending: None, workers: Workers
) -> None:
    report, _ = archived.reports.ask(FUNNEL)
    with archived.engine.begin() as connection:
        # The first worker waits here, with its message unacknowledged, until it is killed.
        connection.exec_driver_sql("LOCK TABLE analytics_daily IN ACCESS EXCLUSIVE MODE")
        ask_for_report(report.id, archived.keys.prefix)
        worker = workers.start("flush", VISIBILITY_TIMEOUT_S="2")
        eventually(lambda: states(archived) == ["running"])
        worker.kill()
    workers.start("flush", VISIBILITY_TIMEOUT_S="2")

    done: Any = eventually(lambda: archived.reports.find_current(FUNNEL))

    assert done.result["steps"][0]["users"] == 2
    assert identify(FUNNEL) == report.id
    assert MAKE_REPORT == "analytics.make_report"
