"""Requests and their times, where anything keeps the numbers: around the whole application."""

from __future__ import annotations

import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.measures import HTTP_S

_CLASSES = tuple(f"{number}xx" for number in range(10))
_API = ("/api/", "/docs", "/openapi.json", "/redoc")
_HEALTH = ("/livez", "/readyz", "/version")


class MeasuredApplication:
    """An application whose requests are measured, until the end of their responses."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    # No coroutines of its own: each would cost a request as much as the measuring does.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a request."""
        if scope["type"] == "http":
            send = _measure(scope["path"], send)
        return self._application(scope, receive, send)


def _measure(path: str, send: Send) -> Send:
    began_s, status = time.monotonic(), ""

    def send_measured(message: Message) -> Awaitable[None]:
        nonlocal status
        if message["type"] == "http.response.start":
            status = _CLASSES[message["status"] // 100]
        elif not message.get("more_body"):
            HTTP_S.note(time.monotonic() - began_s, find_part(path), status)
        return send(message)

    return send_measured


def find_part(path: str) -> str:
    """The part of the web server that a path belongs to: one of four, whatever clients ask for."""
    if path.startswith("/dashboard") or path == "/":
        return "dashboard"
    if path.startswith(_API) and not path.startswith("/api/event/") and path != "/api/event":
        return "api"
    return "health" if path in _HEALTH else "collector"
