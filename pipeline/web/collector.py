"""The collector: events of browsers and servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.routing import Route

from pipeline.web.parts import WebParts


class Collector:
    """The write routes and what stands behind them."""

    def __init__(self, parts: WebParts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """The routes that take events."""
        return []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is entered, events are published."""
        yield
