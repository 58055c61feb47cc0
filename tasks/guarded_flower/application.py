"""Flower's application with our handlers, in place of its own in its command."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flower.command
from flower.app import Flower

from config.values import is_service_variable
from pipeline.errors import PipelineError
from tasks.guarded_flower.failed_logins import FailedLogins
from tasks.guarded_flower.handlers import guard
from tasks.guarded_flower.options import secure_options


class GuardedFlower(Flower):
    """Flower that asks for the login on every route, also on those that it forgets itself."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.failed_logins = FailedLogins()

    def get_handler_delegate(
        self, request: Any, target_class: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """What answers a request: the handler of its route, behind the login."""
        return super().get_handler_delegate(request, guard(target_class), *args, **kwargs)


def install(data_dir: Callable[[], Path]) -> None:
    """Make `flower.command` start a `GuardedFlower`; a login that is not given is kept in
    `data_dir`."""
    # Kubernetes sets FLOWER_PORT=tcp://… where a service is called flower, and Flower takes it.
    for name in [name for name in os.environ if name.startswith("FLOWER_")]:
        if is_service_variable(name, os.environ[name]):
            del os.environ[name]
    flower.command.Flower = partial(_make_flower, data_dir)


def _make_flower(data_dir: Callable[[], Path], **arguments: Any) -> GuardedFlower:
    """In place of `Flower(...)` in Flower's own command, when all options are read."""
    try:
        secure_options(arguments["options"], data_dir)
    except PipelineError as error:
        raise SystemExit(f"analytics: {error}") from error
    os.umask(0o077)  # its file of tasks, which `--persistent` makes, is of this user only
    return GuardedFlower(**arguments)
