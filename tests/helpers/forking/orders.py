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
from typing import Any

MAX_BYTES = 1 << 20
_ARGUMENTS = 23  # of Popen's own way to start a process
_PR_SET_CHILD_SUBREAPER = 36
_ROOT = Path(__file__).resolve().parents[3]

CELERY = (
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.bin.beat",
    "celery.apps.worker",
    "celery.apps.beat",
    "celery.worker.consumer",
    "celery.worker.autoscale",
    "celery.worker.strategy",
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
)
"""What a worker or beat of Celery loads by the time that it runs."""
_IMPORTED = {
    "workers": (
        *CELERY,
        "tasks",
        "tasks.consumer.celery_consumer",
    ),
    "web": ("pipeline.cli.commands.web", "pipeline.web.main"),
    "drivers": (
        "config.options",
        "config.settings",
        "pipeline.services",
        "psycopg",
        "sqlalchemy.dialects.postgresql.psycopg",
        "tests.acceptance.drivers.moments",
        "tests.acceptance.drivers.truth",
        "tests.helpers.before_buckets.processes",
        "tests.helpers.measures.before_quarters",
        "tests.helpers.support",
    ),
}
_DRIVERS = "tests.acceptance.drivers."
_PARENTS = {
    "celery": "workers",
    "pipeline.cli": "web",
    **{
        f"{_DRIVERS}{name}_driver": "drivers"
        for name in ("archive", "before", "flush", "forget", "remove_types", "seal")
    },
}


def can_fork(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], usual: Mapping[str, str]
) -> bool:
    """Whether there is a parent for `python -m MODULE ARGUMENTS…`. Not for pools that change
    modules before others import them, nor for Flower, which must be imported before our app, nor
    where variables are other than `usual` that are no settings of ours."""
    changed = {name for name, _ in {*environment.items()} ^ {*usual.items()}}
    return (
        module in _PARENTS
        and sys.platform == "linux"
        and {"gevent", "eventlet", "threads", "flower"}.isdisjoint(arguments)
        and all(one.startswith("ANALYTICS_") or one == "PYTEST_CURRENT_TEST" for one in changed)
    )


class Forked(subprocess.Popen[Any]):
    """`python -m MODULE ARGUMENTS…` in a session of its own: a child of this process that another
    has forked. `streams` are Popen's: stdin, stdout and stderr, and how their text is encoded."""

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], **streams: Any
    ) -> None:
        self._order = {"module": module, "arguments": arguments, "environment": environment}
        super().__init__([module, *arguments], **streams)

    def _execute_child(self, *how: Any) -> None:
        """In place of the fork and the exec."""
        assert len(how) == _ARGUMENTS, f"Popen has changed: {how}"
        pipes = how[10:16]
        files = [f if f != -1 else n for n, f in enumerate((pipes[0], pipes[3], pipes[5]))]
        self.pid = _parent(_PARENTS[str(self._order["module"])]).fork(self._order, files)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class _Parent:
    """The process that forks; it ends with this one."""

    def __init__(self, kind: str) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.helpers.forking.parent", f"{descriptor}"),
                    *_IMPORTED[kind],
                ],
                cwd=_ROOT,
                env={k: v for k, v in os.environ.items() if not k.startswith("ANALYTICS_")},
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        atexit.register(self._close)

    def fork(self, order: Mapping[str, object], files: list[int]) -> int:
        """The id of a child of this process, which has these three files."""
        whole = {**order, "parent": os.getpid(), "cwd": f"{_ROOT}"}
        with self._lock, _taking_orphans():
            socket.send_fds(self._orders, [json.dumps(whole).encode()], files)
            answer = self._orders.recv(64)
        assert answer, "the parent of processes ended; its standard error says why"
        return int(answer)

    def _close(self) -> None:
        self._orders.close()
        self._process.wait()


@cache
def _parent(kind: str) -> _Parent:
    return _Parent(kind)


@contextmanager
def _taking_orphans() -> Iterator[None]:
    """The child's own parent ends at once; meanwhile what it leaves is ours, not of init."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
