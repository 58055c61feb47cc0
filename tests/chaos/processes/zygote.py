"""A parent that has everything imported and forks a new process whenever it is told to.

    python -m tests.chaos.processes.zygote celery|producer|control|'control producer'

A killed worker is so replaced in milliseconds, where starting Python, Celery and the tasks takes
two seconds of work. Its children are real processes: what they run is `celery`'s own command line,
or a producer. They end with their parent, and the parent with its input.

Orders and reports are lines of JSON on standard input and output.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import runpy
import selectors
import signal
import sys
import threading
import traceback
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

import msgspec

from tests.chaos import points
from tests.chaos.processes.producer import Producer, Work
from tests.chaos.processes.senders import ControlSender, OurSender, Sender
from tests.helpers.forking.orders import CELERY

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SOFTWARE_ERROR = 70
_libc = ctypes.CDLL(None)

_USED_LATER = {
    "celery": (
        *CELERY,
        "alembic.command",
        "pipeline.postgres.schema",
        "tasks",
        "tasks.consumer.batch_consumer",
    ),
    "producer": ("pipeline.producer.celery_tasks", "kombu.transport.redis", "celery.app.amqp"),
    # The control is plain Celery: nothing that `tasks` changes may reach it.
    "control": (*CELERY, "tests.chaos.processes.control"),
    "control producer": (
        "tests.chaos.processes.control",
        "kombu.transport.redis",
        "celery.app.amqp",
    ),
}


class Order(msgspec.Struct):
    """Fork a child called `name`, or send the `signal` to that child (`group`: and its children).

    The child runs the `celery` command with `arguments`, or a producer with `work`.
    """

    name: str
    signal: int = 0
    group: bool = False
    arguments: list[str] = []
    work: Work | None = None
    environment: dict[str, str] = {}
    fate: str = ""
    record: str = ""
    log: str = ""


class Report(msgspec.Struct):
    """The child called `name` has ended; `status` is its exit code, or minus a signal. The first
    report, without a name, says that the zygote is ready."""

    name: str
    status: int


class Zygote:
    """The parent."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        # To name the scripts imports `tasks`, and the control has none of the steps.
        self._points = points.Points() if kind.startswith("control") else points.install()
        for module in _USED_LATER[kind]:
            importlib.import_module(module)
        self._sender: Sender | None = None
        self._children: dict[int, str] = {}
        self._read_orders = msgspec.json.Decoder(Order).decode

    def run(self) -> None:
        """Carry out orders until there are no more."""
        # Children of a killed child become ours, so that none is left behind.
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        wakeup, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        waiting = selectors.DefaultSelector()
        waiting.register(0, selectors.EVENT_READ)
        waiting.register(wakeup, selectors.EVENT_READ)
        unread = b""
        self._report("", 0)
        try:
            while True:
                for key, _ in waiting.select():
                    if key.fd == wakeup:
                        os.read(wakeup, 4096)
                        self._reap()
                        continue
                    data = os.read(0, 1 << 20)
                    if not data:
                        return
                    *lines, unread = (unread + data).split(b"\n")
                    for line in lines:
                        self._obey(self._read_orders(line))
        finally:
            self._end_children()

    def _obey(self, order: Order) -> None:
        if order.signal:
            for pid in [pid for pid, name in self._children.items() if name == order.name]:
                # Our child until it is reaped, so the number cannot be another's.
                (os.killpg if order.group else os.kill)(pid, order.signal)
            return
        if self._kind == "producer" and self._sender is None and order.work is not None:
            self._publish_before_forking(order)
        pid = os.fork()
        if pid == 0:
            self._become(order)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)  # here as well as in the child, since a signal may come first
        self._children[pid] = order.name

    def _publish_before_forking(self, order: Order) -> None:
        """Leave a publisher and its connection behind, which no child may use."""
        assert order.work is not None
        os.environ.update(order.environment)
        self._sender = _sender(self._kind, order.environment)
        work = msgspec.structs.replace(order.work, name=f"{order.name}-parent", predecessor=None)
        event = {
            "event_type": "page_view",
            "user_id": work.name,
            "properties": {"publish": work.name},
        }
        event["timestamp"] = "2025-01-01T00:00:00+00:00"
        Producer(work, self._sender).publish([event], Random(work.seed))

    def _become(self, order: Order) -> None:
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            log = os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ.update(order.environment)
            threading.excepthook = _end_process
            if order.fate:
                self._points.watch(Path(order.fate), Path(order.record))
            self._run_child(order)
            sys.stderr.flush()
            os._exit(0)
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr, flush=True)
            os._exit(end.code if isinstance(end.code, int) else bool(end.code))
        except BaseException:
            traceback.print_exc()
            os._exit(_SOFTWARE_ERROR)

    def _run_child(self, order: Order) -> None:
        if order.work is not None:
            sender = self._sender or _sender(self._kind, order.environment)
            Producer(order.work, sender).run()
        else:
            sys.argv = ["celery", *order.arguments]
            runpy.run_module("celery", run_name="__main__", alter_sys=True)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            name = self._children.pop(pid, None)
            if name is not None:
                self._report(name, os.waitstatus_to_exitcode(status))

    def _report(self, name: str, status: int) -> None:
        os.write(1, msgspec.json.encode(Report(name, status)) + b"\n")

    def _end_children(self) -> None:
        """Kill what is left, those that dead children have left to us as well."""
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        while pids := children.read_text().split():
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
                os.waitpid(int(pid), 0)


def _sender(kind: str, environment: dict[str, str]) -> Sender:
    return (
        ControlSender()
        if kind == "control producer"
        else OurSender(environment["ANALYTICS_REDIS_URL"])
    )


def _end_process(arguments: Any) -> None:
    """A thread that fails must not leave a process behind that looks alive."""
    kind: type[BaseException] = arguments.exc_type
    trace: TracebackType | None = arguments.exc_traceback
    traceback.print_exception(kind, arguments.exc_value, trace)
    sys.stderr.flush()
    os._exit(_SOFTWARE_ERROR)


def main() -> None:
    """Run the zygote that the command line names."""
    Zygote(sys.argv[1]).run()


if __name__ == "__main__":
    main()
