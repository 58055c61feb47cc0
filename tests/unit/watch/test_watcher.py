"""Alarms are told once, and cleared once, over restarts and receivers that are away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InvalidConfiguration, NotDelivered
from pipeline.upkeep.condition.findings import Finding
from pipeline.watch.notices import Notice
from pipeline.watch.raised import RaisedFile
from pipeline.watch.watcher import Watcher, watch

LATE = {"flush_late": [Finding("late", "Flush is late.", "Mend it.", "flush_late")]}
LETTERS = {"dead_letters": [Finding("late", "A letter.", "Read it.", "dead_letters")]}


class Receiver:
    """A sender that notes what it is given; `is_away` has it refuse."""

    def __init__(self, name: str = "webhook") -> None:
        self.name, self.is_away = name, False
        self.notices: list[Notice] = []

    def send(self, notice: Notice) -> None:
        if self.is_away:
            raise NotDelivered("it is away")
        self.notices.append(notice)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(one.alarm, one.status) for one in self.notices]


@pytest.fixture
def file(tmp_path: Path) -> RaisedFile:
    return RaisedFile(tmp_path / "own" / "alarms.json")


def make_watcher(file: RaisedFile, *receivers: Receiver, for_s: float = 0) -> Watcher:
    return Watcher("analytics:", receivers, file, for_s)


def test_an_alarm_is_told_once_and_cleared_once(file: RaisedFile) -> None:
    receiver = Receiver()
    watcher = make_watcher(file, receiver)
    for at_s, found in enumerate([{}, LATE, LATE, {**LATE, **LETTERS}, LETTERS, LETTERS, {}, {}]):
        watcher.update(found, at_s)
    assert receiver.told == [
        ("flush_late", "raised"),
        ("dead_letters", "raised"),
        ("flush_late", "cleared"),
        ("dead_letters", "cleared"),
    ]
    raised, _, cleared, _ = receiver.notices
    assert raised.since == cleared.since == raised.at
    assert cleared.text == (
        "[analytics] flush_late cleared: over since 1970-01-01 00:00:04 UTC. It was: Flush is late."
    )
    assert raised.to_json()["page"] == "docs/guides/operating/alarms/late/flush_late.md"


def test_what_is_found_for_a_moment_is_not_told(file: RaisedFile) -> None:
    receiver = Receiver()
    watcher = make_watcher(file, receiver, for_s=13.5)
    assert watcher.update(LATE, 0) == []
    watcher.update({}, 15)
    assert watcher.update(LATE, 30) == []
    assert receiver.told == []
    assert watcher.update(LATE, 45) == ["flush_late"]
    assert receiver.told == [("flush_late", "raised")]


def test_a_restart_repeats_and_forgets_nothing(file: RaisedFile) -> None:
    receiver = Receiver()
    make_watcher(file, receiver).update(LATE, 0)
    make_watcher(file, receiver).update(LATE, 15)
    make_watcher(file, receiver).update({}, 30)
    make_watcher(file, receiver).update({}, 45)
    assert receiver.told == [("flush_late", "raised"), ("flush_late", "cleared")]


def test_a_receiver_that_is_away_is_told_when_it_is_back_and_holds_up_no_other(
    file: RaisedFile,
) -> None:
    away, other = Receiver("mail"), Receiver()
    watcher = make_watcher(file, away, other)
    away.is_away = True
    watcher.update(LATE, 0)
    watcher.update({**LATE, **LETTERS}, 5)
    assert watcher.owes == ["mail"]
    assert [alarm for alarm, _ in other.told] == ["flush_late", "dead_letters"]
    away.is_away = False
    watcher.update(LATE, 10)  # it rests; and of what was over meanwhile it is never told
    assert away.told == []
    watcher.update(LATE, 20)
    assert away.told == [("flush_late", "raised")]
    assert watcher.owes == []

    away.is_away = True
    watcher.update({}, 25)
    away.is_away = False
    make_watcher(file, away, other).update({}, 30)
    assert away.told[1:] == [("flush_late", "cleared")]
    assert other.told.count(("flush_late", "cleared")) == 1


def test_an_alarm_that_comes_back_before_it_could_be_cleared_is_not_told_again(
    file: RaisedFile,
) -> None:
    receiver = Receiver()
    watcher = make_watcher(file, receiver)
    watcher.update(LATE, 0)
    receiver.is_away = True
    watcher.update({}, 15)
    receiver.is_away = False
    watcher.update(LATE, 60)
    assert receiver.told == [("flush_late", "raised")]


def test_a_sender_that_was_taken_away_keeps_no_alarm(file: RaisedFile) -> None:
    make_watcher(file, Receiver("mail")).update(LATE, 0)
    make_watcher(file, Receiver()).update({}, 15)
    assert file.read() == {}


@pytest.mark.parametrize("content", ["", "[]", '{"alarms": {"x": {"y": 1}}}'])
def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "alarms.json"
    path.write_text(content)
    with pytest.raises(InvalidConfiguration, match=r"alarms\.json cannot be read .* remove it"):
        make_watcher(RaisedFile(path))


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    watcher = make_watcher(RaisedFile(tmp_path / "taken" / "alarms.json"))
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidConfiguration, match="--state"):
        watcher.update(LATE, 0)


def test_the_file_is_its_owners_and_its_directory_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "alarms.json"
    make_watcher(RaisedFile(path)).update(LATE, 0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_watching_goes_on_whatever_fails(
    file: RaisedFile, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, looks = Receiver(), iter([ZeroDivisionError("a fault"), LATE, None])

    def find() -> Any:
        look = next(looks)
        if isinstance(look, Exception):
            raise look
        return look or {}

    pauses: list[float] = []

    def wait(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(make_watcher(file, receiver), find, 15, wait)
    assert receiver.told == [("flush_late", "raised"), ("flush_late", "cleared")]
    assert all(14 < pause_s <= 15 for pause_s in pauses)
    assert "a fault" in caplog.text
