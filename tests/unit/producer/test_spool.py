"""The tracker's files: what was written is found after a crash, once and in its order."""

from __future__ import annotations

import logging
import os
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.producer.spool import Spool, SpooledMessage
from pipeline.system import file_locks

EVENT = b'{"event_type":"a","timestamp":1.5}'


def spool_with(directory: Path, *numbers: int) -> Spool:
    spool = Spool.of(directory, "p1")
    for number in numbers:
        append(spool, number)
    return spool


def append(spool: Spool, number: int, events: int = 2) -> None:
    spool.append(number, f"task {number}", [EVENT] * events)


def first_of(spool: Spool) -> SpooledMessage:
    message = spool.first()
    assert message is not None
    return message


def send_all(spool: Spool) -> list[int]:
    """Mark every message as sent; returns their numbers in the order in which they came."""
    numbers = []
    while (message := spool.first()) is not None:
        numbers.append(message.number)
        spool.mark_sent(message)
    return numbers


def left_over(directory: Path) -> list[Spool]:
    return Spool.left_over(directory, at_most=10)


def damage(spool: Spool, at: int) -> None:
    """Overwrite a few bytes of the file."""
    with spool.path.open("r+b") as file:
        file.seek(at)
        file.write(b"\x00\xff\x00")


@contextmanager
def disk_that_holds(size: int) -> Iterator[None]:
    """No file can be longer than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current directory is `tmp_path`, and this process not root's."""
    monkeypatch.chdir(tmp_path)
    was = os.getresuid()
    if was[1] == 0:
        os.chown(tmp_path, 65_534, -1)
        os.setresuid(65_534, 65_534, 0)
    yield
    os.setresuid(*was)


# Writing and reading


def test_a_message_is_read_as_it_was_written(tmp_path: Path) -> None:
    spool = spool_with(tmp_path)
    spool.append(7, "task", [EVENT, b'{"event_type":"\xc3\xa4","properties":{"a":[1,"x\\n"]}}'])
    message = first_of(spool)
    assert (message.number, message.task_id) == (7, "task")
    assert [bytes(event) for event in message.events] == [
        EVENT,
        b'{"event_type":"\xc3\xa4","properties":{"a":[1,"x\\n"]}}',
    ]


def test_a_message_larger_than_a_read_is_read_whole(tmp_path: Path) -> None:
    spool = spool_with(tmp_path)
    append(spool, 1, events=10_000)
    append(spool, 2)
    assert len(first_of(spool).events) == 10_000
    assert send_all(spool) == [1, 2]


def test_messages_come_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, *range(1, 50))
    assert send_all(spool) == list(range(1, 50))
    append(spool, 50)
    assert send_all(spool) == [50]


def test_the_first_message_stays_the_first_until_it_is_marked(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, 1, 2)
    assert first_of(spool).number == first_of(spool).number == 1
    spool.mark_sent(first_of(spool))
    assert first_of(spool).number == 2


def test_the_size_is_that_of_the_file(tmp_path: Path) -> None:
    spool = spool_with(tmp_path)
    assert spool.size == 0
    append(spool, 1)
    append(spool, 2)
    assert spool.size == spool.path.stat().st_size > 4 * len(EVENT)


def test_only_the_owner_can_read_the_events(tmp_path: Path) -> None:
    assert spool_with(tmp_path, 1).path.stat().st_mode & 0o777 == 0o600


def test_deleting_leaves_nothing_and_a_new_file_can_follow(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, 1)
    send_all(spool)
    spool.delete()
    assert list(tmp_path.iterdir()) == []
    assert send_all(spool_with(tmp_path, 2)) == [2]


# After a crash


def test_the_next_process_finds_what_was_not_marked_as_sent(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, 1, 2, 3)
    spool.mark_sent(first_of(spool))
    spool.close()
    [found] = left_over(tmp_path)
    assert found.producer_id == "p1"
    assert send_all(found) == [2, 3]
    found.close()
    [found] = left_over(tmp_path)
    assert found.first() is None


def test_a_last_line_torn_at_any_byte_is_forgotten_and_what_comes_next_is_read(
    tmp_path: Path,
) -> None:
    spool = spool_with(tmp_path, 1)
    whole = spool.size
    append(spool, 2)
    content = spool.path.read_bytes()
    spool.close()
    for cut in range(whole, len(content)):
        spool.path.write_bytes(content[:cut])
        again = Spool(spool.path)
        append(again, 3, events=1)
        assert again.size == again.path.stat().st_size
        assert send_all(again) == [1, 3]
        again.close()


def test_a_last_line_as_long_as_a_message_can_be_is_forgotten(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, 1)
    append(spool, 2, events=15_000)
    content = spool.path.read_bytes()
    spool.close()
    spool.path.write_bytes(content[:-1])
    assert send_all(Spool(spool.path)) == [1]


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_damaged_line_is_set_aside_and_the_others_are_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: int
) -> None:
    spool = spool_with(tmp_path, 1, 2, 3)
    damage(spool, spool.size // 3 * damaged + 20)
    spool.close()
    content = spool.path.read_bytes()
    [found] = left_over(tmp_path)
    assert send_all(found) == [n for n in (1, 2, 3) if n != damaged + 1]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    found.delete()
    [aside] = tmp_path.iterdir()
    assert aside.suffix == ".damaged"
    lines = aside.read_bytes().splitlines()
    assert lines[damaged] == content.splitlines()[damaged]
    assert left_over(tmp_path) == []


def test_what_was_set_aside_is_not_overwritten(tmp_path: Path) -> None:
    for number in (1, 2):
        spool = spool_with(tmp_path, number)
        damage(spool, 5)
        assert spool.first() is None
        spool.delete()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_somebody_cut_is_not_read_beyond_its_end(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, 1, 2)
    send_all(spool)
    append(spool, 3)
    os.truncate(spool.path, spool.size - 10)
    with pytest.raises(OSError, match="cut by somebody else"):
        spool.first()


# One process at a time


def test_a_file_is_open_once(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, 1)
    with pytest.raises(BlockingIOError):
        Spool(spool.path)
    assert left_over(tmp_path) == []
    spool.close()
    assert len(left_over(tmp_path)) == 1


def test_another_process_cannot_open_it_until_this_one_is_dead(tmp_path: Path) -> None:
    with child(lambda: spool_with(tmp_path, 1)):
        assert left_over(tmp_path) == []
    [found] = left_over(tmp_path)
    assert send_all(found) == [1]


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, 1)
    with child(lambda: None):
        spool.close()
        [found] = left_over(tmp_path)
    assert send_all(found) == [1]


def test_a_forked_child_does_not_keep_the_lock_of_a_spool_that_is_not_referred_to(
    tmp_path: Path,
) -> None:
    descriptor = spool_with(tmp_path, 1)._file
    with child(lambda: None):
        [lock] = [lock for lock in file_locks._held if lock.descriptor == descriptor]
        lock.close()
        [found] = left_over(tmp_path)
    assert send_all(found) == [1]


@contextmanager
def child(act: Callable[[], object]) -> Iterator[None]:
    """A forked process that has done this and lives until the end of the block, when it is
    killed."""
    done, said = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which a run may have
        pid = os.fork()
    if pid == 0:
        try:
            kept = act()
            os.write(said, b".")
            signal.pause()
        finally:
            os._exit(kept is None)
    try:
        assert os.read(done, 1) == b"."
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(done)
        os.close(said)


# Errors


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, 1)
    content = spool.path.read_bytes()
    with disk_that_holds(len(content) + 20), pytest.raises(OSError, match="File too large"):
        append(spool, 2)
    assert spool.path.read_bytes() == content
    assert spool.size == len(content)
    append(spool, 2)
    assert send_all(spool) == [1, 2]


@pytest.mark.usefixtures("nobody")
def test_a_file_of_another_user_waits_and_the_others_are_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spool_with(Path(), 1).close()
    Path("p1.spool").rename("p0.spool")
    Path("p0.spool").chmod(0)
    spool_with(Path(), 2).close()
    [found] = left_over(Path())
    assert send_all(found) == [2]
    assert "p0.spool waits for a tracker that can open it" in caplog.text


def test_what_cannot_be_opened_does_not_keep_the_others_from_being_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.spool").mkdir()
    spool_with(tmp_path, 1).close()
    [found] = left_over(tmp_path)
    assert send_all(found) == [1]
    assert "a.spool waits for a tracker that can open it" in caplog.text


def test_no_more_files_are_opened_than_asked_for(tmp_path: Path) -> None:
    for name in "abc":
        Spool.of(tmp_path, name).close()
    first = Spool.left_over(tmp_path, 2)
    second = Spool.left_over(tmp_path, 2)
    assert [spool.producer_id for spool in first + second] == ["a", "b", "c"]
