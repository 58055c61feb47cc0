"""What stands before and in some of Flower's handlers: the login, true numbers, and why not."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from flower.api.tasks import TaskAbort, TaskApply, TaskResult
from flower.views.auth import LoginHandler
from flower.views.monitor import Healthcheck
from flower.views.workers import WorkersView
from tornado.web import HTTPError, RequestHandler, StaticFileHandler, authenticated

# What a login needs itself, and a health check that answers "OK" and knows nothing else.
_OPEN = (LoginHandler, Healthcheck, StaticFileHandler)
_OF_RESULTS = (TaskApply, TaskResult, TaskAbort)
_UNAUTHORIZED, _TOO_MANY, _NOT_IMPLEMENTED = 401, 429, 501
_HEADERS = {
    "X-Frame-Options": "DENY",  # a page that frames it could have its buttons clicked
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def guard(handler: type[RequestHandler]) -> type[RequestHandler]:
    """The handler to use in place of this one of Flower's."""
    if issubclass(handler, _OPEN):
        return handler
    return _guard(handler)  # type: ignore[no-any-return, arg-type]


@cache
def _guard(handler: Any) -> Any:
    """The same handler, which answers nothing before the login is checked."""

    class Guarded(handler):
        def set_default_headers(self) -> None:
            super().set_default_headers()
            for name, value in _HEADERS.items():
                self.set_header(name, value)

        def prepare(self) -> Any:
            _check_login(self)
            if not self.current_user:
                return None  # redirected to the login page
            if isinstance(self, _OF_RESULTS):
                raise HTTPError(
                    _NOT_IMPLEMENTED,
                    "the workers of the pipeline keep no results: send a task by "
                    "/api/task/async-apply, and see what it did in its row under /tasks",
                )
            if isinstance(self, WorkersView):
                show_true_numbers(self.application.events.state)
            return super().prepare()

    Guarded.__name__ = handler.__name__
    return Guarded


def _check_login(handler: Any) -> None:
    failed, address = handler.application.failed_logins, handler.request.remote_ip or ""
    wait_s = failed.measure_wait_s(address)
    if wait_s and "Authorization" in handler.request.headers:
        handler.current_user = None  # else it is looked for once more, to show the error
        handler.set_header("Retry-After", str(math.ceil(wait_s)))
        raise HTTPError(_TOO_MANY, f"too many wrong passwords: try again in {wait_s:.0f} s")
    try:
        _require_login(handler)
    except HTTPError as error:
        if error.status_code == _UNAUTHORIZED and "Authorization" in handler.request.headers:
            failed.note(address)
        raise
    except TypeError as error:  # Flower compares ASCII alone, and would show the traceback
        failed.note(address)
        raise HTTPError(_UNAUTHORIZED) from error


@authenticated
def _require_login(handler: RequestHandler) -> None:
    """Redirects to the login page, or raises `HTTPError`, when there is no user."""


def show_true_numbers(state: Any) -> None:
    """Replace what Flower has counted itself by what the workers say with each heartbeat: monitors
    are shown a sample of the events only."""
    for name, worker in state.workers.items():
        if worker.processed is None:
            continue
        counter = state.counter[name]
        others = counter["task-failed"] + counter["task-retried"] + (worker.active or 0)
        counter["task-received"] = worker.processed
        counter["task-succeeded"] = max(0, worker.processed - others)
