"""When the processes of `analytics up` are ready: their Celery nodes answer, their ports listen."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.cli import context
from pipeline.cli.local.supervised_process import SupervisedProcess
from pipeline.errors import NotReady
from pipeline.system.logs import read_last_lines

READY_WITHIN_S = 60.0
_POLL_S = 0.05
_PING_TIMEOUT_S = 0.5
_LOG_LINES_SHOWN = 3


def wait_until_ready(
    processes: Sequence[SupervisedProcess], keep_running: Callable[[], None]
) -> None:
    """Return when all `processes` are ready; `keep_running` starts again those that end meanwhile.

    Raises `NotReady`.
    """
    app = context.load_celery_app()
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        keep_running()
        nodes = {node.partition("@")[0] for node in _ping(app)}
        missing = [process for process in processes if not _is_ready(process, nodes)]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise _explain_missing(missing[0])
        time.sleep(_POLL_S)


def _ping(app: Any) -> list[str]:
    """Names of the Celery nodes that answer; none while the broker is away."""
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    try:
        return context.ping_nodes(app, _PING_TIMEOUT_S)
    except (OperationalError, RedisError, OSError):
        return []


def _is_ready(process: SupervisedProcess, nodes: set[str]) -> bool:
    node, port = process.plan.node, process.plan.port
    return (node is None or node in nodes) and (port is None or _listens(port))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_PING_TIMEOUT_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _explain_missing(process: SupervisedProcess) -> NotReady:
    log = process.plan.command.log
    try:
        lines = read_last_lines(log, _LOG_LINES_SHOWN)
    except OSError:
        lines = []
    last = " / ".join(line.strip() for line in lines if line.strip())
    return NotReady(
        f"{process.name} was not ready after {READY_WITHIN_S:g} s; see {log}, "
        f"which ends with: {last or '(nothing)'}"
    )
