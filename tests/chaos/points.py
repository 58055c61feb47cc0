"""Crash points: a process kills or stops itself before, in the middle of, or after a named step.

`install` wraps, from outside, what every step goes through: the sending of a script to Redis and
the reading of its answer, and the statements and the commit of a flush. Which point comes next is
read from a few bytes that the campaign shares with the process (`Fate`).
"""

from __future__ import annotations

import enum
import mmap
import os
import signal
from pathlib import Path
from typing import Any

from tests.helpers.sent_scripts import script_of

SCRIPTS = (
    "pipeline.producer.publish",
    "pipeline.intake.fetch",
    "pipeline.counting.apply",
    "pipeline.flushing.claim",
    "pipeline.flushing.settle",
    "pipeline.intake.postpone",
    "pipeline.intake.restore",
)
_DUE = b"\r\n$3\r\ndue\r\n"
"""In a call of the last of them that puts what is due into its queue: the step `due`."""
STATEMENTS = ("ledger", "upserts", "commit")
_OF_SCRIPT = ("before", "sent", "after")
"""Not sent; sent, and the answer not read; answer read, and nothing done with it."""

POINTS = {
    "producer": [f"{when} publish" for when in _OF_SCRIPT],
    "events": [
        f"{when} {step}"
        for step in ("fetch", "apply", "restore", "postpone", "due")
        for when in _OF_SCRIPT
    ],
    "flush": [
        *[f"{when} {step}" for step in ("claim", "settle") for when in _OF_SCRIPT],
        *[f"{when} {step}" for step in STATEMENTS for when in ("before", "after")],
    ],
}
"""By role, all points that a campaign must see fire."""

_SIZE = 64


class State(enum.IntEnum):
    """What a process is to do at its point."""

    NOTHING = 0
    KILL = 1
    STOP = 2
    DONE = 3


class Fate:
    """The point at which a process is to die or stop: 64 bytes of a file that both sides map.

    First byte: the state. Second: how often the point is let pass first. Then the name of the
    point.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, _SIZE)
        self._bytes = mmap.mmap(descriptor, _SIZE)
        os.close(descriptor)

    def arm(self, point: str, state: State, passes: int) -> None:
        """Let the process that reaches `point` act, after `passes` times of passing it."""
        self._bytes[0] = State.NOTHING
        name = point.encode()
        self._bytes[1:] = bytes([passes]) + name + bytes(_SIZE - 2 - len(name))
        self._bytes[0] = state

    def disarm(self) -> None:
        """Let no point act."""
        self._bytes[0] = State.NOTHING

    @property
    def done(self) -> bool:
        """Whether the process acted."""
        return self._bytes[0] == State.DONE

    def reach(self, point: str) -> State:
        """In the process: what to do now that it is at `point`."""
        state = self._bytes[0]
        if state not in (State.KILL, State.STOP):
            return State.NOTHING
        if self._bytes[2:_SIZE].rstrip(b"\0") != point.encode():
            return State.NOTHING
        if self._bytes[1] > 0:
            self._bytes[1] -= 1
            return State.NOTHING
        self._bytes[0] = State.DONE
        return State(state)


class Points:
    """The points of this process."""

    def __init__(self) -> None:
        self._fate: Fate | None = None
        self._record: int = -1

    def watch(self, fate: Path, record: Path) -> None:
        """From now on act as `fate` says, and write each act to the file `record` before it."""
        self._fate = Fate(fate)
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def reach(self, point: str) -> None:
        """Say that the process is at `point`; it may end here."""
        if self._fate is None:
            return
        state = self._fate.reach(point)
        if state is State.NOTHING:
            return
        os.write(self._record, f"{state.name.lower()} {point}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL if state is State.KILL else signal.SIGSTOP)


def install() -> Points:
    """Wrap what the steps go through; done once, before any connection is made."""
    points = Points()
    _watch_scripts(points)
    _watch_statements(points)
    return points


def _watch_scripts(points: Points) -> None:
    from redis.connection import AbstractConnection

    from pipeline.redis.scripts import Script

    steps = {Script(name).sha1: name.rpartition(".")[2] for name in SCRIPTS}
    connection: Any = AbstractConnection
    send, read = connection.send_packed_command, connection.read_response

    def watched_send(self: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        step = steps.get(script_of(command) or "")
        if step == "restore" and any(_DUE in part for part in command):
            step = "due"
        self.chaos_step = step
        if step is None:
            send(self, command, *args, **kwargs)
            return
        points.reach(f"before {step}")
        send(self, command, *args, **kwargs)
        points.reach(f"sent {step}")

    def watched_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = read(self, *args, **kwargs)
        step = getattr(self, "chaos_step", None)
        if step is not None:
            self.chaos_step = None
            points.reach(f"after {step}")
        return answer

    connection.send_packed_command, connection.read_response = watched_send, watched_read


def _watch_statements(points: Points) -> None:
    from sqlalchemy import Connection, event
    from sqlalchemy.engine import Engine
    from sqlalchemy.engine.default import DefaultDialect

    storing: set[int] = set()  # driver connections with a flush transaction open

    def step_of(statement: str, driver: int) -> str | None:
        if statement.startswith("INSERT INTO flush_batches"):
            return "ledger"
        is_upsert = driver in storing and statement.startswith("INSERT INTO analytics_")
        return "upserts" if is_upsert else None  # others are of a sealing

    @event.listens_for(Engine, "before_cursor_execute")
    def before(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        driver = id(connection.connection.driver_connection)
        step = step_of(statement, driver)
        if step is not None:
            storing.add(driver)
            points.reach(f"before {step}")

    @event.listens_for(Engine, "after_cursor_execute")
    def after(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        step = step_of(statement, id(connection.connection.driver_connection))
        if step is not None:
            points.reach(f"after {step}")

    dialect: Any = DefaultDialect
    commit = dialect.do_commit

    def watched_commit(self: Any, connection: Any) -> None:
        driver = id(getattr(connection, "driver_connection", connection))
        stores = driver in storing
        storing.discard(driver)
        if stores:
            points.reach("before commit")
        commit(self, connection)
        if stores:
            points.reach("after commit")

    dialect.do_commit = watched_commit
