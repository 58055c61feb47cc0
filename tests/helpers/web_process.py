"""The web server as a process that tests start, kill and start again on the same port."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from typing import IO

from pipeline.services import Services
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import Worker, Workers, eventually, start_group, start_module

_READY_WITHIN_S = 30


class WebProcess:
    """`analytics web` on a free port of 127.0.0.1, with the settings of one test."""

    def __init__(self, workers: Workers, host: str = "127.0.0.1", open_files: int = 0) -> None:
        """`open_files` is its limit of open files; 0: this process's."""
        self._workers, self._host = workers, host
        self._open_files = open_files
        self.log = workers.directory / "web.log"
        self.port = free_port()
        self.process: Worker | None = None

    @property
    def origin(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that serves."""
        assert self.process is not None
        return self.process.process.pid

    def start(self, **settings: str) -> WebProcess:
        """Start it and wait until it answers. `settings` are environment variables without their
        prefix."""
        with self.log.open("ab") as output:
            process = self._run(
                output,
                self._workers.environment | {f"ANALYTICS_{k}": v for k, v in settings.items()},
            )
        self.process = Worker("web", process, self.log)
        self._workers.started.append(self.process)  # which ends it, and shows its log
        eventually(
            lambda: self._answers() or process.poll() is not None,
            _READY_WITHIN_S,
            "the web server does not answer",
        )
        assert process.poll() is None, f"the web server ended:\n{self.said()}"
        return self

    def _run(self, output: IO[bytes], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        arguments = ["web", "--host", self._host, "--port", str(self.port)]
        if not self._open_files:
            return start_module("pipeline.cli", arguments, output, environment)
        limit = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', f"{self._open_files}"]
        command = [*limit, sys.executable, "-m", "pipeline.cli", *arguments]
        return start_group(command, output, environment)

    def said(self) -> str:
        """Its log so far, that of earlier processes included."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL it."""
        assert self.process is not None
        self.process.kill()

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/analytics.js")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def wait_until_consumed(services: Services) -> None:
    """Wait until no event is queued or in a worker's hands."""

    def consumed() -> bool:
        status = services.status()
        return not status["queue_depth"] and not status["unacknowledged"]

    eventually(consumed, what="all that was accepted is consumed")


def lately() -> tuple[date, date]:
    """Yesterday and tomorrow: a test may begin before midnight and end after it."""
    today, day = datetime.now(UTC).date(), timedelta(days=1)
    return today - day, today + day
