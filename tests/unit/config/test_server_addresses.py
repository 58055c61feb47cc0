"""Where the private servers listen: one small file, written by their owner."""

from __future__ import annotations

import ast
import stat
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from pipeline import server_addresses
from pipeline.errors import InvalidConfiguration
from pipeline.server_addresses import Addresses
from pipeline.system import file_locks, forks, private_files
from pipeline.system.private_files import write_private

BOTH = Addresses(
    redis_url="redis://:secret@127.0.0.1:20001/0",
    postgres_url="postgresql+psycopg://analytics:secret@127.0.0.1:20002/analytics",
    pid=4711,
)


def test_a_directory_where_nothing_was_started_has_no_addresses(tmp_path: Path) -> None:
    assert server_addresses.read(tmp_path) is None
    assert server_addresses.read(tmp_path / "absent") is None


def test_what_was_written_is_read(tmp_path: Path) -> None:
    server_addresses.write(tmp_path, BOTH)

    assert server_addresses.read(tmp_path) == BOTH


def test_one_server_alone_leaves_the_other_empty(tmp_path: Path) -> None:
    alone = Addresses(redis_url=BOTH.redis_url, postgres_url=None, pid=1)

    server_addresses.write(tmp_path, alone)

    assert server_addresses.read(tmp_path) == alone


def test_only_the_owner_can_read_the_file_even_where_an_open_one_was(tmp_path: Path) -> None:
    (tmp_path / server_addresses.FILE).touch(mode=0o644)

    server_addresses.write(tmp_path, BOTH)

    assert stat.S_IMODE((tmp_path / server_addresses.FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [server_addresses.FILE]


def test_a_reader_beside_a_writer_always_sees_whole_addresses(tmp_path: Path) -> None:
    others = [Addresses(f"redis://{'x' * size}", None, size) for size in (1, 20_000)]
    server_addresses.write(tmp_path, others[0])
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for addresses in others:
                server_addresses.write(tmp_path, addresses)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        seen = [server_addresses.read(tmp_path) for _ in range(300)]
    finally:
        stop.set()
        writer.join()

    assert all(addresses in others for addresses in seen)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    server_addresses.write(tmp_path, BOTH)

    with pytest.raises(UnicodeEncodeError):
        write_private(tmp_path / server_addresses.FILE, "\ud800")

    assert server_addresses.read(tmp_path) == BOTH
    assert [path.name for path in tmp_path.iterdir()] == [server_addresses.FILE]


def test_a_url_that_is_given_wins(tmp_path: Path) -> None:
    server_addresses.write(tmp_path, BOTH)

    assert server_addresses.find_redis_url("redis://given", tmp_path) == "redis://given"
    assert (
        server_addresses.find_postgres_url("postgresql://given", tmp_path) == "postgresql://given"
    )


def test_without_a_given_url_the_private_server_is_taken(tmp_path: Path) -> None:
    server_addresses.write(tmp_path, BOTH)

    assert server_addresses.find_redis_url(None, tmp_path) == BOTH.redis_url
    assert server_addresses.find_postgres_url("", tmp_path) == BOTH.postgres_url


@pytest.mark.parametrize(
    ("find", "variable"),
    [
        (server_addresses.find_redis_url, "ANALYTICS_REDIS_URL"),
        (server_addresses.find_postgres_url, "ANALYTICS_POSTGRES_URL"),
    ],
)
@pytest.mark.parametrize("written", [None, Addresses(None, None, 1)])
def test_without_any_server_the_error_names_the_variable_the_directory_and_the_command(
    tmp_path: Path, find: object, variable: str, written: Addresses | None
) -> None:
    if written is not None:
        server_addresses.write(tmp_path, written)
    assert callable(find)

    with pytest.raises(InvalidConfiguration) as caught:
        find(None, tmp_path)

    message = str(caught.value)
    assert variable in message
    assert str(tmp_path) in message
    assert "analytics up" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", "{}", '{"redis_url": 1, "postgres_url": null, "pid": 1}', '{"pid": "x"}'],
)
def test_a_damaged_file_is_reported_with_its_path_and_the_remedy(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / server_addresses.FILE
    path.write_text(content, encoding="utf-8")

    with pytest.raises(InvalidConfiguration) as caught:
        server_addresses.read(tmp_path)

    assert str(path) in str(caught.value)
    assert "delete it" in str(caught.value)


def test_a_file_that_is_not_text_is_damaged(tmp_path: Path) -> None:
    (tmp_path / server_addresses.FILE).write_bytes(b"\xff\xfe")

    with pytest.raises(InvalidConfiguration, match="damaged"):
        server_addresses.read(tmp_path)


def test_a_file_that_cannot_be_read_is_reported_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / server_addresses.FILE).mkdir()

    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        server_addresses.read(tmp_path)


def test_addresses_shown_in_a_log_hide_the_passwords() -> None:
    assert "secret" not in repr(BOTH)


@pytest.mark.parametrize(
    ("module", "others"),
    [
        (server_addresses, {"pipeline.errors", "pipeline.system.private_files"}),
        (private_files, set()),
        (file_locks, {"pipeline.system.forks"}),
        (forks, set()),
    ],
)
def test_applications_load_nothing_but_the_standard_library_with_this_module(
    module: ModuleType, others: set[str]
) -> None:
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    modules = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }

    foreign = {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign == others
