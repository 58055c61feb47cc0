"""Starts processes as children of this one by a parent that has their modules imported."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

MAX_BYTES = 1 << 20
_PR_SET_CHILD_SUBREAPER = 36
_ROOT = Path(__file__).resolve().parents[3]

_IMPORTED = {
    "celery": (
        "celery.bin.celery",
        "celery.bin.worker",
        "celery.bin.beat",
        "celery.apps.worker",
        "celery.apps.beat",
        "celery.worker.consumer",
        "celery.worker.autoscale",
        "celery.concurrency.solo",
        "celery.concurrency.prefork",
        "celery.concurrency.asynpool",
        "celery.events.state",
        "celery.app.log",
        "celery.app.control",
        "celery.app.events",
        "celery.app.amqp",
        "celery.loaders.app",
        "kombu.transport.pyamqp",
        "kombu.transport.redis",
        "psycopg",
        "tasks",
        "tasks.consumer.batch_consumer",
    ),
    "pipeline.cli": ("pipeline.cli.commands.web", "pipeline.web.main"),
}


def is_known(module: str, arguments: Sequence[str]) -> bool:
    """Whether there is a parent for `python -m MODULE ARGUMENTS…` here. Not for pools that change
    modules before others import them, nor for Flower, which must be imported before our app."""
    return (
        module in _IMPORTED
        and sys.platform == "linux"
        and {"gevent", "eventlet", "threads", "flower"}.isdisjoint(arguments)
    )


def fork(
    module: str, arguments: Sequence[str], output: IO[bytes], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """`python -m MODULE ARGUMENTS…` in a session of its own, with this environment and without
    input. Its variables must be those of this process, but for settings of ours."""
    return _Forked(_parent(module), module, arguments, output, environment)


class _Forked(subprocess.Popen[bytes]):
    """A child of this process that another has forked."""

    def __init__(
        self,
        parent: _Parent,
        module: str,
        arguments: Sequence[str],
        output: IO[bytes],
        environment: Mapping[str, str],
    ) -> None:
        order = {"module": module, "arguments": arguments, "environment": environment}
        self._fork = lambda: parent.fork(order, output.fileno())
        super().__init__([module, *arguments])

    def _execute_child(self, *_: Any) -> None:
        """In place of the fork and the exec."""
        self.pid = self._fork()
        self._child_created = True


class _Parent:
    """The process that forks; it ends with this one."""

    def __init__(self, module: str) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.helpers.forking.parent", f"{descriptor}"),
                    *_IMPORTED[module],
                ],
                cwd=_ROOT,
                env={k: v for k, v in os.environ.items() if not k.startswith("ANALYTICS_")},
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        atexit.register(self._close)

    def fork(self, order: Mapping[str, object], output: int) -> int:
        """The id of a child of this process."""
        whole = {**order, "parent": os.getpid(), "cwd": f"{_ROOT}"}
        with self._lock, _taking_orphans():
            socket.send_fds(self._orders, [json.dumps(whole).encode()], [output])
            answer = self._orders.recv(64)
        assert answer, "the parent of workers ended; its standard error says why"
        return int(answer)

    def _close(self) -> None:
        self._orders.close()
        self._process.wait()


@cache
def _parent(module: str) -> _Parent:
    return _Parent(module)


@contextmanager
def _taking_orphans() -> Iterator[None]:
    """The child's own parent ends at once; meanwhile what it leaves is ours, not of init."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
