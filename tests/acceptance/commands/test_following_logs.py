"""`analytics import` of a log that grows, and of one that holds no event."""

from __future__ import annotations

import array
import fcntl
import gzip
import json
import signal
import subprocess
import termios
from collections.abc import Iterator
from typing import IO

import pytest

from tests.acceptance.drivers.command import Analytics, Up
from tests.helpers.support import eventually

pytestmark = pytest.mark.timeout(120)

DAY = "2026-01-31"


@pytest.fixture(scope="module")
def analytics(tmp_path_factory: pytest.TempPathFactory) -> Analytics:
    settings = {"FLOWER_PORT": "0", "WEB_PORT": "0", "FLUSH_INTERVAL_S": "3600"}
    return Analytics(tmp_path_factory.mktemp("logs"), settings)


@pytest.fixture(scope="module")
def up(analytics: Analytics) -> Iterator[Up]:
    """A running pipeline."""
    running = analytics.up()
    yield running
    running.stop()


def count(analytics: Analytics, event_type: str) -> int:
    """The count of a type on the day of these tests."""
    found: int = analytics.json("stats", "count", event_type, "--date", DAY)["count"]
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_followed_log_is_sent_as_it_grows_and_what_was_read_when_it_is_stopped(
    up: Up, analytics: Analytics, number: signal.Signals
) -> None:
    event_type = f"followed_{number.name.lower()}"
    line = json.dumps({"event_type": event_type, "timestamp": f"{DAY}T00:00:00Z"}).encode() + b"\n"
    importing = subprocess.Popen(
        analytics.command("import", "-", "--data-dir", str(analytics.data_dir)),
        cwd=analytics.directory,
        env=analytics.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with importing:
        assert importing.stdin is not None
        assert importing.stderr is not None
        importing.stdin.write(line * 3)
        importing.stdin.flush()
        eventually(lambda: count(analytics, event_type) == 3)
        importing.stdin.write(line * 2)
        importing.stdin.flush()
        eventually(lambda: _is_read(importing.stdin))
        importing.send_signal(number)
        said = importing.stderr.read().decode()

    assert importing.returncode == 130
    assert "5 lines were read and 5 events sent" in said
    eventually(lambda: count(analytics, event_type) == 5)


def _is_read(pipe: IO[bytes] | None) -> bool:
    """Whether what was written to a pipe was taken out of it."""
    assert pipe is not None
    waiting = array.array("i", [0])
    fcntl.ioctl(pipe.fileno(), termios.FIONREAD, waiting)
    return waiting[0] == 0


def test_an_import_of_which_no_line_is_an_event_fails(up: Up, analytics: Analytics) -> None:
    file = analytics.directory / "broken.log"
    file.write_text("broken\n" * 3)

    done = subprocess.run(
        analytics.command("import", str(file), "--data-dir", str(analytics.data_dir)),
        cwd=analytics.directory,
        env=analytics.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert b"not a combined log line" in done.stdout


def test_an_import_reads_standard_input(up: Up, analytics: Analytics) -> None:
    event = json.dumps({"event_type": "piped", "timestamp": f"{DAY}T00:00:00Z"})

    done = subprocess.run(
        analytics.command("import", "-", "--format", "ndjson"),
        cwd=analytics.directory,
        env=analytics.environment | {"ANALYTICS_DATA_DIR": str(analytics.data_dir)},
        input=gzip.compress(event.encode()),
        capture_output=True,
        timeout=60,
        check=True,
    )

    assert b"standard input" in done.stdout
    eventually(lambda: count(analytics, "piped") == 1)
