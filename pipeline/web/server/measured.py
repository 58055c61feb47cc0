"""Requests and their times, where anything keeps the numbers: around the whole application."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.measures import HTTP_S

_CLASSES = tuple(f"{number}xx" for number in range(10))
_NONE = "none"
_API = ("/api/", "/docs", "/openapi.json", "/redoc")
_HEALTH = ("/livez", "/readyz", "/version")


class MeasuredApplication:
    """An application whose requests are measured, until the end of their responses."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began_s, status = time.monotonic(), _NONE

        async def send_measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = _CLASSES[message["status"] // 100]
            await send(message)

        try:
            await self._application(scope, receive, send_measured)
        finally:
            HTTP_S.note(time.monotonic() - began_s, find_part(scope["path"]), status)


def find_part(path: str) -> str:
    """The part of the web server that a path belongs to: one of four, whatever clients ask for."""
    if path.startswith("/dashboard") or path == "/":
        return "dashboard"
    if path.startswith(_API) and not path.startswith("/api/event/") and path != "/api/event":
        return "api"
    return "health" if path in _HEALTH else "collector"
