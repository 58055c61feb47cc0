"""A span for each request, where traces are on: around the whole application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from opentelemetry.trace import SpanKind, StatusCode, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.traces.carried import read_trace
from pipeline.web.server.measured import find_part

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_API = "/api"


class TracedApplication:
    """An application whose requests have spans, those for its health apart. A span goes on with the
    trace that the request names, has the template of the route, and nothing else that was sent."""

    def __init__(
        self, application: ASGIApp, tracer: Tracer, find_path: Callable[[Scope], str]
    ) -> None:
        """`find_path` returns the path of the collector's that a request is for, "" for none."""
        self._application, self._tracer, self._find_path = application, tracer, find_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or find_part(scope["path"]) == "health":
            await self._application(scope, receive, send)
            return
        sent = dict(scope["headers"])
        parent = read_trace(lambda name: sent.get(name.encode(), b"").decode("latin-1"))
        known = scope["method"] in _METHODS
        attributes = {"http.request.method": scope["method"] if known else "_OTHER"}
        status, name = 0, scope["method"] if known else "HTTP"

        def send_noted(message: Message) -> Awaitable[None]:
            nonlocal status
            status = message.get("status", status)
            return send(message)

        with self._tracer.start_as_current_span(
            name,
            parent,
            SpanKind.SERVER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                await self._application(scope, receive, send_noted)
            finally:
                if span.is_recording():
                    route = self._find_route(scope)
                    if route:
                        span.update_name(f"{name} {route}")
                        span.set_attribute("http.route", route)
                    if status:
                        span.set_attribute("http.response.status_code", status)
                    if not status or status >= 500:
                        span.set_status(StatusCode.ERROR)

    def _find_route(self, scope: Scope) -> str:
        """The template of the path; "" where it is none that we serve."""
        path: str = getattr(scope.get("route"), "path", "")
        if path:
            # New versions of FastAPI leave out the prefix of an included router.
            is_cut = scope["path"].startswith(f"{_API}/") and not path.startswith(_API)
            return _API + path if is_cut else path
        return self._find_path(scope)
