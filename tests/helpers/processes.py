"""Python programs that tests run in processes of their own, and whether a process runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.forking import orders
from tests.helpers.support import ROOT, environment_without_settings

LIMIT_S = 60


def run_python(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` to its end, with no settings of ours but those of `environment`."""
    with _started(arguments, environment or {}) as process:
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@contextmanager
def piped_python(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`python ARGUMENTS`, which the test writes to and reads from; killed at the end."""
    with _started(arguments, {}, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _started(
    arguments: Sequence[str], settings: Mapping[str, str], **streams: Any
) -> subprocess.Popen[str]:
    usual = environment_without_settings()
    environment = {**usual, **settings}
    streams |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    module = arguments[1] if arguments[0] == "-m" else ""
    if orders.can_fork(module, arguments[2:], environment, usual):
        return orders.Forked(module, arguments[2:], environment, **streams)
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, **streams)


def runs(pid: int) -> bool:
    """Whether `pid` lives; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
