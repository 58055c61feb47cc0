"""Locks on files: who has one, and when it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.system.file_locks import FileLock, read_pid


def test_a_file_is_locked_once_until_the_lock_is_closed(tmp_path: Path) -> None:
    first = FileLock.try_acquire(tmp_path / "lock")
    assert first is not None

    assert FileLock.try_acquire(tmp_path / "lock") is None
    first.close()
    first.close()
    second = FileLock.try_acquire(tmp_path / "lock")

    assert second is not None
    second.close()


def test_the_holder_can_be_read_from_the_file(tmp_path: Path) -> None:
    lock = FileLock.try_acquire(tmp_path / "lock")
    assert lock is not None
    assert read_pid(tmp_path / "lock") is None

    lock.write("12345")
    lock.write("678")

    assert read_pid(tmp_path / "lock") == 678
    lock.close()


def test_a_file_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock.try_acquire(tmp_path / "lock", create=False)

    lock = FileLock.try_acquire(tmp_path / "lock")

    assert lock is not None
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    lock.close()


def test_a_forked_child_does_not_hold_the_lock(tmp_path: Path) -> None:
    lock = FileLock.try_acquire(tmp_path / "lock")
    assert lock is not None
    ready, is_ready = os.pipe()
    end, is_over = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(is_ready, b".")
        os.read(end, 1)
        os._exit(0)
    os.read(ready, 1)
    lock.close()

    try:
        again = FileLock.try_acquire(tmp_path / "lock")
        assert again is not None
        again.close()
    finally:
        os.write(is_over, b".")
        os.waitpid(child, 0)
        for descriptor in (ready, is_ready, end, is_over):
            os.close(descriptor)
