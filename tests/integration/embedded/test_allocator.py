"""The private Redis runs on jemalloc where the system has it, and starts all the same without."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.embedded import PrivateServers, allocator
from pipeline.embedded.redis import find_binary
from tests.integration.embedded.support import (
    installed_redis,
    linux_only,
    not_here,
    redis_of,
    script,
)

_PRINTS_ITS_VERSION = 'echo "Valkey server v=9.1.2 malloc=libc"'


@pytest.fixture
def jemalloc() -> None:
    """Only where the library is; Debian's redis-server brings it."""
    if not any(Path("/usr").glob(f"lib*/**/{allocator.JEMALLOC}")):
        not_here(f"{allocator.JEMALLOC} (on Debian: apt-get install libjemalloc2)")


def without_jemalloc(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    monkeypatch.setattr(allocator, "JEMALLOC", str(library))


@linux_only
@pytest.mark.usefixtures("jemalloc")
def test_the_private_redis_allocates_by_the_systems_jemalloc(data_dir: Path) -> None:
    with PrivateServers.start(data_dir, postgres=False) as servers, redis_of(servers) as client:
        assert client.ping()
        assert servers.redis is not None
        assert allocator.JEMALLOC in Path(f"/proc/{servers.redis.pid}/maps").read_text()
        servers.redis.kill()
        servers.redis.start()
        assert client.ping()
        assert allocator.JEMALLOC in Path(f"/proc/{servers.redis.pid}/maps").read_text()


@pytest.mark.parametrize("content", [None, b"no library at all"])
def test_without_a_library_that_works_redis_starts_and_logs_nothing_of_it(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    library = tmp_path / "libjemalloc.so.2"
    if content is not None:
        library.write_bytes(content)
    without_jemalloc(monkeypatch, library)

    with PrivateServers.start(data_dir, postgres=False) as servers, redis_of(servers) as client:
        assert client.ping()
    assert "LD_PRELOAD" not in (data_dir / "redis.log").read_text()


@pytest.mark.parametrize(
    "then",
    [
        'test -z "$LD_PRELOAD" || exit 134',
        'test -z "$LD_PRELOAD" || echo "<jemalloc>: Unsupported system page size" >&2',
    ],
)
def test_a_server_that_cannot_run_on_the_library_runs_without(tmp_path: Path, then: str) -> None:
    binary = script(tmp_path / "valkey-server", f"{_PRINTS_ITS_VERSION}; {then}")
    assert allocator.find_preload(binary) == ()


def test_a_server_with_an_allocator_of_its_own_keeps_it() -> None:
    assert allocator.find_preload(installed_redis()) == ()


def test_a_server_that_does_not_run_at_all_is_for_others_to_refuse(tmp_path: Path) -> None:
    assert allocator.find_preload(tmp_path / "absent") == ()


def test_another_system_than_linux_preloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = find_binary()
    monkeypatch.setattr("sys.platform", "darwin")
    assert allocator.find_preload(binary) == ()
