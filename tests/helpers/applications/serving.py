"""Runs an application under a server, sends it requests, and ends it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import redis

from pipeline.contract import TRACK_EVENTS
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import ROOT, arguments, environment_without_settings, sent, start_group

_LIMIT_S = 60
_CLIENTS = 8


class Process:
    """A program of this environment in a process group of its own, and what it has written."""

    def __init__(self, command: Sequence[str], log: Path, **environment: str) -> None:
        self._log = log
        program = str(Path(sys.executable).with_name(command[0]))
        variables = {**environment_without_settings(), "PYTHONPATH": str(ROOT), **environment}
        with log.open("wb") as output:
            self._process = start_group([program, *command[1:]], output, variables)

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def runs(self) -> bool:
        return self._process.poll() is None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait; returns the exit status, negative for a signal."""
        self.send(number)
        try:
            return self._process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.output}") from None

    def kill(self) -> None:
        """End what is left of the group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(command: Sequence[str], log: Path, **environment: str) -> Iterator[Process]:
    """A program for the time of the block."""
    process = Process(command, log, **environment)
    try:
        yield process
    finally:
        process.kill()


def request_all(process: Process, port: int, path: str, users: Sequence[str]) -> None:
    """One request of each user to a server that may still start."""

    def request(user: str) -> None:
        while True:
            connection = HTTPConnection("127.0.0.1", port, timeout=_LIMIT_S)
            try:
                connection.connect()
            except ConnectionRefusedError:
                assert process.runs(), process.output
                continue
            connection.request("GET", f"{path}?user={quote(user)}")
            answer = connection.getresponse()
            assert answer.status == 200, (answer.read(), process.output)
            connection.close()
            return

    request(users[0])
    with ThreadPoolExecutor(_CLIENTS) as pool:
        list(pool.map(request, users[1:]))


def counts_sent(client: redis.Redis) -> Counter[tuple[str, str | None]]:
    """How often each type and user is in the queue, however it was sent."""
    counts: Counter[tuple[str, str | None]] = Counter()
    for message in sent(client):
        args, kwargs = arguments(message)
        if message["headers"]["task"] == TRACK_EVENTS:
            counts.update((event["event_type"], event.get("user_id")) for event in args[0])
        else:
            counts[args[0], kwargs.get("user_id")] += 1
    return counts


def port_for(command: str) -> tuple[int, list[str]]:
    """A free port, and the command with it in place of PORT."""
    port = free_port()
    return port, shlex.split(command.replace("PORT", str(port)))
