"""The stops of an event: the functions and scripts that it passes through, from call to row."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import text

from pipeline.days import today
from pipeline.embedded import PrivateServers
from pipeline.postgres import partitions, schema
from pipeline.postgres.engine import postgres_engine
from tests.helpers.processes import run_python
from tests.helpers.support import environment_without_settings, eventually
from tests.path.following import ROOT
from tests.path.marks import COUNT_BY, MARK

PROCESSES = ("caller", "events", "flush")
"""In the order in which the event comes to them."""


class NotFollowed(Exception):
    """The event could not be followed to its row."""


@dataclass(frozen=True)
class Stop:
    """A function of ours, or a script, that the event passes through; `function` is empty for a
    script."""

    process: str
    file: str
    function: str
    lines: int

    @property
    def title(self) -> str:
        """The stop as the page names it."""
        return f"{self.file}: {self.function}" if self.function else self.file


def count(stops: Sequence[Stop]) -> tuple[int, int, int]:
    """How many stops, how many files they are in, and how many lines they have."""
    return len(stops), len({stop.file for stop in stops}), sum(stop.lines for stop in stops)


def summarize(stops: Sequence[Stop]) -> str:
    """The line that `make path` prints."""
    return "stops {}, files {}, lines {}".format(*count(stops))


def follow_event(directory: Path, **programs: Any) -> list[Stop]:
    """Send an event through servers of its own to its row in Postgres; returns its stops in order.

    `programs` are those of `PrivateServers.start`. Raises `NotFollowed` when the row is not there
    or does not count exactly one event.
    """
    with PrivateServers.start(directory / "servers", **programs) as servers:
        assert servers.redis_url is not None
        assert servers.postgres_url is not None
        environment = {
            "ANALYTICS_REDIS_URL": servers.redis_url,
            "ANALYTICS_POSTGRES_URL": servers.postgres_url,
            "ANALYTICS_DATA_DIR": str(directory / "none"),
            "ANALYTICS_COUNT_BY": json.dumps(COUNT_BY),
        }
        engine = postgres_engine(servers.postgres_url)
        schema.migrate(engine)
        partitions.make_ahead(engine, today(), 0)  # as beat does every day
        with _running("events", directory, environment):
            _run("caller", directory, environment)
        _run("flush", directory, environment)
        with engine.connect() as connection:
            counts = text("SELECT count FROM analytics_daily WHERE event_type = :type")
            found = list(connection.execute(counts, {"type": MARK}).scalars())
        engine.dispose()
    if found != [1]:
        raise NotFollowed(f"the event's counts in Postgres are {found}; they should be [1]")
    return _in_order(directory)


def _run(role: str, directory: Path, environment: Mapping[str, str]) -> None:
    ran = run_python(*_command(role, directory), environment=environment)
    if ran.returncode != 0:
        raise NotFollowed(f"{role} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")


@contextmanager
def _running(role: str, directory: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """The worker is ready during the block, and ends warmly."""
    log = directory / f"{role}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *_command(role, directory)],
            cwd=ROOT,
            env=environment_without_settings() | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: b"ready." in log.read_bytes(), what="the worker is not ready")
        yield
        process.send_signal(signal.SIGTERM)
        if process.wait(30) != 0:
            raise NotFollowed(f"{role} ended with {process.returncode}")
    except BaseException as error:
        error.add_note(f"log of {role}:\n{log.read_text(errors='replace')}")
        raise
    finally:
        process.kill()
        process.wait()


def _command(role: str, directory: Path) -> tuple[str, ...]:
    return "-m", "tests.path.process", role, str(directory / f"{role}.json")


def _in_order(directory: Path) -> list[Stop]:
    """The stops of all processes; each stands where the event comes to it first."""
    stops: dict[str, Stop] = {}
    for process in PROCESSES:
        for file, line in json.loads((directory / f"{process}.json").read_text()):
            stop = find_stop(process, Path(file), line)
            stops.setdefault(stop.title, stop)
    return list(stops.values())


def find_stop(process: str, file: Path, line: int) -> Stop:
    """The stop to which the code at this line belongs. A comprehension, a lambda or an inner
    function belongs to the function around it; line 0 is the whole file."""
    name = str(file.relative_to(ROOT))
    if line == 0:
        return Stop(process, name, "", len(file.read_text().splitlines()))
    for function, first, last in functions_of(file):
        if first <= line <= last:
            return Stop(process, name, function, last - first + 1)
    raise NotFollowed(f"{name}:{line} is in no function; give what stands there a name")


@cache
def functions_of(file: Path) -> list[tuple[str, int, int]]:
    """Name, first and last line, decorators included, of the functions in no other function."""
    return list(_functions(ast.parse(file.read_text()).body, ""))


def _functions(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[str, int, int]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min(one.lineno for one in (node, *node.decorator_list))
            yield f"{prefix}{node.name}", first, node.end_lineno or first
