"""Ports and passwords of the private servers."""

from __future__ import annotations

import socket
import stat
import threading
from pathlib import Path

import pytest

from pipeline.embedded import PrivateServers, credentials
from pipeline.errors import EmbeddedServerFailed


def test_credentials_stay_the_same_and_differ_between_servers(tmp_path: Path) -> None:
    redis, postgres = (credentials.load(tmp_path, name) for name in ("redis", "postgres"))

    assert credentials.load(tmp_path, "redis") == redis
    assert credentials.load(tmp_path, "postgres") == postgres
    assert redis.port != postgres.port
    assert redis.password != postgres.password
    assert stat.S_IMODE((tmp_path / credentials.FILE).stat().st_mode) == 0o600


def test_a_shown_credential_hides_its_password(tmp_path: Path) -> None:
    own = credentials.load(tmp_path, "redis")

    assert own.password not in repr(own)


def test_a_port_that_its_old_server_is_just_leaving_is_waited_for(tmp_path: Path) -> None:
    own = credentials.load(tmp_path, "redis")
    leaving = socket.create_server(("127.0.0.1", own.port))
    timer = threading.Timer(0.2, leaving.close)
    timer.start()

    again = credentials.load(tmp_path, "redis")

    timer.join()
    assert again == own


def test_a_port_that_another_program_keeps_is_replaced_and_the_password_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_PORT_LIMIT_S", 0.1)
    own = credentials.load(tmp_path, "redis")
    with socket.create_server(("127.0.0.1", own.port)):
        moved = credentials.load(tmp_path, "redis")

    assert moved.port != own.port
    assert moved.password == own.password
    assert credentials.load(tmp_path, "redis") == moved


@pytest.mark.parametrize("content", ["", "[]", "7", '{"redis": {}}', '{"redis": {"port": "x"}}'])
def test_damaged_credentials_are_never_replaced_silently(tmp_path: Path, content: str) -> None:
    path = tmp_path / credentials.FILE
    path.write_text(content, encoding="utf-8")

    with pytest.raises(EmbeddedServerFailed, match=r"credentials\.json"):
        credentials.load(tmp_path, "redis")

    assert path.read_text(encoding="utf-8") == content


def test_what_an_earlier_version_left_open_to_other_users_is_closed_at_the_next_start(
    data_dir: Path,
) -> None:
    with PrivateServers.start(data_dir, postgres=False):
        pass
    for path in (data_dir, data_dir / "redis"):
        path.chmod(0o755)
    for path in [one for one in data_dir.iterdir() if one.is_file()]:
        path.chmod(0o644)

    with PrivateServers.start(data_dir, postgres=False):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()}

    assert stat.S_IMODE(data_dir.stat().st_mode) & 0o066 == 0
    if data_dir.stat().st_mode & 0o011:  # others may pass, so each entry is closed by itself
        assert modes["redis"] == 0o700
        assert {mode for name, mode in modes.items() if name != "redis"} == {0o600}


def test_a_data_directory_that_all_users_share_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(EmbeddedServerFailed, match="all users share it; name one inside it"):
        PrivateServers.start(tmp_path, postgres=False)
