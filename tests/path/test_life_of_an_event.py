"""The page docs/explanation/life-of-an-event.md says what the code does, stop by stop."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import chosen_programs
from tests.helpers.support import event
from tests.path.following import ROOT
from tests.path.marks import COUNT_BY, EVENT, MARK, is_marked
from tests.path.page import PAGE, TODO, Row, numbers_of, rows_of, update
from tests.path.stops import PROCESSES, Stop, count, find_stop, follow_event, summarize


@pytest.fixture(scope="module")
def stops(tmp_path_factory: pytest.TempPathFactory) -> list[Stop]:
    """The stops of an event on servers of its own."""
    return follow_event(tmp_path_factory.mktemp("path"), **chosen_programs())


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_stop_in_order(stops: list[Stop], page: str) -> None:
    on_page = [(row.process, row.title) for row in rows_of(page)]
    assert on_page == [(stop.process, stop.title) for stop in stops], "make path ARGS=--update"


def test_the_page_says_how_long_the_way_is(stops: list[Stop], page: str) -> None:
    assert numbers_of(page) == [summarize(stops)], "make path ARGS=--update"


def test_the_way_is_short(stops: list[Stop]) -> None:
    how_many, files, lines = count(stops)
    assert how_many <= 60
    assert files <= 18
    assert lines <= 1_100


def test_the_page_says_of_every_stop_what_happens_and_what_a_crash_does(page: str) -> None:
    rows = rows_of(page)
    assert {row.process for row in rows} == set(PROCESSES)
    assert [row for row in rows if TODO in row.what + row.crash] == []
    assert [row for row in rows if not row.crash.startswith(("lost", "repeated", "exact"))] == []


def test_the_way_goes_through_the_scripts_that_make_it_exact(stops: list[Stop]) -> None:
    scripts = [Path(stop.file).name for stop in stops if not stop.function]
    assert scripts == ["publish.lua", "fetch.lua", "apply.lua", "claim.lua"]


# How the event is followed, and the page brought up to date


def closure(value: object) -> Callable[[], object]:
    return lambda: value


@pytest.mark.parametrize(
    "value",
    [
        f"a:{MARK}:b",
        f"a:{MARK}:b".encode(),
        {"a": [({MARK}, 1)]},
        {MARK: 1},
        closure([MARK]),
        event(**EVENT),
        *[b64encode(b"x" * before + MARK.encode() + b"x") for before in range(3)],
    ],
)
def test_the_event_is_found_in_what_is_made_of_it(value: object) -> None:
    assert is_marked(value)


@pytest.mark.parametrize("value", ["a", b64encode(b"a" * 30), [1, None], COUNT_BY, closure(1)])
def test_the_event_is_not_found_where_it_is_not(value: object) -> None:
    assert not is_marked(value)


def test_an_inner_function_belongs_to_the_function_around_it() -> None:
    file = ROOT / "tests" / "path" / "following.py"
    lines = file.read_text().splitlines()
    (inner,) = [at for at, line in enumerate(lines, 1) if "def watched_send(" in line]
    found = find_stop("caller", file, inner)
    assert found.title == "tests/path/following.py: _watch_scripts"
    assert lines[-found.lines].startswith("def _watch_scripts(")


def test_an_update_keeps_texts_marks_new_stops_and_returns_those_that_are_gone(page: str) -> None:
    first, second, *_ = rows = rows_of(page)
    new = Stop(first.process, "pipeline/new.py", "new", 7)
    kept = Stop(second.process, *second.title.split(": "), 5)
    updated, gone = update(page, [new, kept])
    assert rows_of(updated) == [Row(first.process, new.title, TODO, TODO), second]
    assert gone == [row for row in rows if row != second]
    assert numbers_of(updated) == ["stops 2, files 2, lines 12"]


def test_a_stop_that_comes_in_another_process_keeps_no_word_about_its_crash(page: str) -> None:
    last = rows_of(page)[-1]
    moved = Stop("caller", *last.title.split(": "), 5)
    updated, gone = update(page, [moved])
    assert rows_of(updated) == [Row("caller", last.title, last.what, TODO)]
    assert last not in gone
