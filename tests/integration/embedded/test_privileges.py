"""The user that the private Postgres runs as when root starts it."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.embedded import (
    PrivateServers,
    privileges,
)
from pipeline.errors import EmbeddedServerFailed
from tests.helpers.processes import runs
from tests.integration.embedded.support import (
    Flavour,
    Owner,
    eventually,
    installed_postgres,
    linux_only,
    root_only,
    sql,
)


@contextlib.contextmanager
def directory_open_to_all() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


@root_only
@linux_only
def test_root_runs_postgres_as_an_unprivileged_user(data_dir: Path, flavour: Flavour) -> None:
    parents = {path: path.stat().st_mode for path in data_dir.parents}

    with flavour.start(data_dir, redis=False) as servers:
        assert servers.postgres is not None
        assert user_of(servers.postgres.pid) == pwd.getpwnam("nobody").pw_uid

    assert {path: path.stat().st_mode for path in data_dir.parents} == parents


@root_only
@linux_only
@pytest.mark.parametrize(
    ("lost", "way"),
    [
        # Numbers of capability.h: what containers and service managers often take away.
        ((), "capability"),
        ((2,), "capability"),
        ((7,), "namespace"),
        ((1, 2, 8), "namespace"),
    ],
)
def test_root_in_a_closed_directory_takes_the_way_its_capabilities_allow(
    tmp_path: Path, owner: Callable[..., Owner], lost: tuple[int, ...], way: str
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    preamble = (
        "import ctypes\n"
        f"for capability in {lost}:\n"
        "    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0\n"
    )
    other = owner(
        closed / ".analytics",
        postgres=True,
        preamble=preamble,
        then="print(servers.postgres._program.way.name, flush=True)",
    )

    pids = other.started()

    assert other.line() == [way]
    assert user_of(pids[1]) == (0 if way == "namespace" else pwd.getpwnam("nobody").pw_uid)
    other.kill()
    eventually(lambda: not any(runs(pid) for pid in pids))
    # Whoever owned the files before, the next start goes on with them.
    with PrivateServers.start(closed / ".analytics") as servers:
        assert sql(servers, "SELECT 1") == (1,)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@root_only
@linux_only
def test_root_runs_binaries_that_lie_in_a_closed_directory(data_dir: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed to others"
    closed.mkdir(mode=0o700)
    for name in ("postgres", "initdb"):
        (closed / name).symlink_to(installed_postgres() / name)

    with PrivateServers.start(data_dir, redis=False, postgres_bin_dir=closed) as servers:
        assert sql(servers, "SELECT 1") == (1,)

    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@root_only
@linux_only
def test_root_in_an_open_directory_keeps_no_capability(owner: Callable[..., Owner]) -> None:
    installed = installed_postgres()
    with (
        directory_open_to_all() as directory,
        PrivateServers.start(
            directory / ".analytics", redis=False, postgres_bin_dir=installed
        ) as servers,
    ):
        assert servers.postgres is not None
        status = Path(f"/proc/{servers.postgres.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "CapAmb:\t0000000000000000" in status
        assert "Groups:\t \n" in status


@root_only
def test_root_without_any_way_is_told_what_was_tried_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerFailed) as caught:
        privileges.choose_way(tmp_path / "trial-", tmp_path / "absent", ["/nonexistent"])

    message = str(caught.value)
    assert "cannot run as root" in message
    assert "switch: cannot start /nonexistent" in message
    assert "ordinary user" in message
    assert list(tmp_path.iterdir()) == []


@root_only
@linux_only
def test_a_cluster_of_an_ordinary_user_goes_on_as_that_user(data_dir: Path) -> None:
    with PrivateServers.start(data_dir, redis=False):
        pass
    daemon = pwd.getpwnam("daemon")
    for path in [data_dir / "postgres", *(data_dir / "postgres").rglob("*")]:
        os.lchown(path, daemon.pw_uid, daemon.pw_gid)

    with PrivateServers.start(data_dir, redis=False) as servers:
        assert servers.postgres is not None
        assert user_of(servers.postgres.pid) == daemon.pw_uid
