"""Files and directories closed to other users under any umask, also where they existed before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.access.flower_login import load_flower_login
from pipeline.cli.files.exporting import Destination
from pipeline.errors import InvalidConfiguration
from pipeline.producer.app import configure
from pipeline.producer.sender import Sender
from pipeline.producer.settings import ProducerSettings
from pipeline.system.file_locks import FileLock
from pipeline.system.private_files import make_private_directory, open_private, write_private

ANOTHER_USER = 12_345
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """A process whose new files anybody may read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def test_a_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "a" / "b")
    assert mode_of(tmp_path / "a" / "b") == 0o700


def test_a_directory_that_another_server_user_must_pass_cannot_be_listed(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "data", passable=True)
    assert mode_of(tmp_path / "data") == 0o711


@pytest.mark.parametrize(
    ("before", "passable", "after"),
    [(0o755, False, 0o700), (0o777, False, 0o700), (0o777, True, 0o711), (0o700, True, 0o700)],
)
def test_a_directory_that_exists_is_closed(
    tmp_path: Path, before: int, passable: bool, after: int
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(before)
    make_private_directory(directory, passable=passable)
    assert mode_of(directory) == after


def test_files_in_a_directory_that_others_may_pass_are_closed_too(tmp_path: Path) -> None:
    secret, link, outside = tmp_path / "d" / "secret", tmp_path / "d" / "link", tmp_path / "other"
    secret.parent.mkdir()
    for path in (secret, outside):
        path.write_text("text")
    link.symlink_to(outside)

    make_private_directory(tmp_path / "d", passable=True)

    assert mode_of(secret) == 0o600
    assert mode_of(outside) == 0o666


def test_a_directory_that_all_users_share_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(PermissionError, match="all users share it; name one inside it"):
        make_private_directory(tmp_path)
    assert mode_of(tmp_path) == 0o1777


@root_only
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, ANOTHER_USER, -1)
    with pytest.raises(PermissionError, match=r"belongs to another user \(12345\)"):
        make_private_directory(tmp_path)


@root_only
def test_a_link_of_another_user_to_a_directory_of_ours_is_refused(tmp_path: Path) -> None:
    ours, link = tmp_path / "ours", tmp_path / "link"
    ours.mkdir(0o755)
    link.symlink_to(ours)
    os.lchown(link, ANOTHER_USER, -1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        make_private_directory(link)
    assert mode_of(ours) == 0o755


def test_a_file_is_made_closed_and_one_that_exists_is_closed(tmp_path: Path) -> None:
    for name in ("new", "old"):
        path = tmp_path / name
        if name == "old":
            path.write_text("before")
        os.close(open_private(path, append=True))
        assert mode_of(path) == 0o600
    assert (tmp_path / "old").read_text() == "before"
    os.close(open_private(tmp_path / "old"))
    assert (tmp_path / "old").read_text() == ""


def test_no_link_is_followed(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("precious, without a line break")
    link.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        open_private(link)
    with pytest.raises(OSError, match="symbolic links"):
        FileLock.try_acquire(link)
    assert victim.read_text() == "precious, without a line break"


@root_only
def test_a_file_of_another_user_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "trap"
    path.write_text("theirs")
    os.chown(path, ANOTHER_USER, -1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        open_private(path)
    assert path.read_text() == "theirs"


def test_a_private_file_has_its_mode_under_any_umask(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", "text")
    assert mode_of(tmp_path / "secret") == 0o600


def test_an_export_is_closed_to_others_and_follows_no_link(tmp_path: Path) -> None:
    with Destination(str(tmp_path / "events.ndjson"), compressed=False) as destination:
        destination.stream.write(b"{}\n")
    assert mode_of(tmp_path / "events.ndjson") == 0o600

    (tmp_path / "more.ndjson.part").symlink_to(tmp_path / "events.ndjson")
    with pytest.raises(OSError, match="symbolic links"):
        Destination(str(tmp_path / "more.ndjson"), compressed=False)
    assert (tmp_path / "events.ndjson").read_bytes() == b"{}\n"


def test_a_spool_directory_is_made_closed_and_one_open_to_all_is_refused(tmp_path: Path) -> None:
    configure(ProducerSettings(redis_url="redis://127.0.0.1:1/0"))
    Sender(tmp_path / "spool", 1_000_000)
    assert mode_of(tmp_path / "spool") == 0o700

    (tmp_path / "spool").chmod(0o777)
    with pytest.raises(InvalidConfiguration, match=r"spool_dir=.*chmod o-w"):
        Sender(tmp_path / "spool", 1_000_000)


def test_the_login_of_flower_is_made_once_and_closed(tmp_path: Path) -> None:
    login = load_flower_login(tmp_path / "data")
    assert mode_of(login.path) == 0o600
    assert load_flower_login(tmp_path / "data") == login
    assert login.password not in repr(login)

    login.path.write_text("{}")
    with pytest.raises(InvalidConfiguration, match="damaged: delete it"):
        load_flower_login(tmp_path / "data")
