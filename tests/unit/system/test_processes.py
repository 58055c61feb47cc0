"""Child processes: real ones, each a small shell."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.system.logs import read_last_lines
from pipeline.system.processes import ChildProcess, Command
from tests.helpers.processes import runs
from tests.helpers.support import eventually


@contextmanager
def started(tmp_path: Path, script: str) -> Iterator[ChildProcess]:
    child = ChildProcess(Command(["/bin/sh", "-c", script], os.environ, tmp_path / "log"))
    try:
        child.wait_until_started()
        yield child
    finally:
        child.send_to_group(signal.SIGKILL)
        assert child.wait(10)


def printed(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().split()


def test_it_leads_a_group_of_its_own_and_its_output_goes_to_its_log(tmp_path: Path) -> None:
    with started(tmp_path, "echo out; echo err >&2; sleep 60") as child:
        eventually(lambda: printed(tmp_path) == ["out", "err"])

        assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid
        assert not child.has_ended()
        assert child.exit_code is None


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -TERM $$", -signal.SIGTERM)])
def test_its_exit_code_is_known_once_it_has_ended(tmp_path: Path, script: str, code: int) -> None:
    with started(tmp_path, script) as child:
        assert child.wait(10)

        assert child.has_ended()
        assert child.exit_code == code


def test_the_log_of_a_process_that_goes_on_writing_is_bounded_and_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 100_000
    monkeypatch.setattr("pipeline.system.logs.RUNNING_LIMIT_BYTES", limit)
    before = os.umask(0)
    try:
        line = "x" * 999
        writing = f"n=0; while [ $n -lt 300 ]; do echo {line}; n=$((n+1)); done; sleep 60"
        with started(tmp_path, f"{writing} & wait") as child:
            log, older = tmp_path / "log", tmp_path / "log.1"
            eventually(lambda: older.exists() and log.stat().st_size < limit)

            assert 0 < older.stat().st_size <= limit
            assert older.stat().st_mode & 0o777 == log.stat().st_mode & 0o777 == 0o600
            assert not child.has_ended()
            assert older.read_text().splitlines()[-1] == line
    finally:
        os.umask(before)


def test_a_log_that_was_begun_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("why it ended\n")
    assert read_last_lines(log, 3, start=1_000) == ["why it ended"]
    assert read_last_lines(log, 3, start=4) == ["it ended"]


def test_with_it_ends_what_is_left_of_its_group(tmp_path: Path) -> None:
    with started(tmp_path, "sleep 60 & echo $!; wait") as child:
        eventually(lambda: printed(tmp_path))
        left = int(printed(tmp_path)[0])

        child.send(signal.SIGKILL)

        assert child.wait(10)
        eventually(lambda: not runs(left))


def test_a_signal_after_its_end_is_sent_to_no_process(tmp_path: Path) -> None:
    with started(tmp_path, "exit 0") as child:
        assert child.wait(10)

        child.send(signal.SIGKILL)
        child.send_to_group(signal.SIGKILL)

        assert child.exit_code == 0


def test_a_program_that_cannot_run_is_an_error_and_counts_as_ended(tmp_path: Path) -> None:
    child = ChildProcess(Command([str(tmp_path / "absent")], {}, tmp_path / "log"))

    with pytest.raises(FileNotFoundError):
        child.wait_until_started()
    assert child.has_ended()
