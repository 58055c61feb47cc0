"""The stream of the Live page: one read a second for all its viewers.

While there are viewers, the numbers are read about once a second, and drawn once for each time zone
and event type among them. A viewer gets the parts that differ from those sent last; a slow one
misses steps between, never the newest, and nothing piles up for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from threading import Event as ThreadEvent
from typing import NamedTuple

from pipeline.errors import PipelineError
from pipeline.web.api.threads import ThreadPools
from pipeline.web.dashboard.live.numbers import LiveReader
from pipeline.web.dashboard.live.parts import draw_parts
from pipeline.web.dashboard.state import PageState
from pipeline.web.errors import InternalFault, RequestRefused, TooManyRequests, Unavailable
from pipeline.web.responses import encode_json

INTERVAL_S = 1.0
HEARTBEAT_S = 15.0
MOST_VIEWERS = 1_000
MOST_VIEWS = 20
"""Each is read and drawn by itself."""
SHARE_OF_TOKEN = 0.5
"""Of viewers and of views: the rest is for viewers with other tokens."""
_CHECK_S = 0.5
"""How soon a stream notices that the server is to stop."""
_ASK_VIEWER_S = 2.0
"""How often a viewer is asked whether they still may read."""
_FOR_ALL = ""
"""In place of the id of a read token."""
_RETRY_AFTER_S = 15.0
_RECONNECT = b"retry: 2000\n\n"

logger = logging.getLogger(__name__)


class View(NamedTuple):
    """What a viewer sees: times of a zone, events of a type or, where it is empty, of all."""

    zone: str
    event_type: str


@dataclass
class _Viewer:
    """A stream: its view, the id of its token, and what was sent last."""

    view: View
    token_id: str
    sent: dict[str, bytes] = field(default_factory=dict)

    def take_news(self, parts: dict[str, bytes]) -> list[bytes]:
        """What is to be sent, which is then taken for sent."""
        news = {name: event for name, event in parts.items() if self.sent.get(name) != event}
        self.sent.update(news)
        if "problem" not in parts:
            self.sent.pop("problem", None)
        elif news:
            self.sent = {"problem": parts["problem"]}  # all is sent anew when it is over
        return list(news.values())


class LiveFeed:
    """The reads and their viewers, in one event loop. `stopping` is set when the server is to
    stop."""

    def __init__(self, reader: LiveReader, threads: ThreadPools, stopping: ThreadEvent) -> None:
        self._reader, self._threads, self._stopping = reader, threads, stopping
        self._viewers: Counter[tuple[str, View]] = Counter()
        """By token and view."""
        self._drawn: dict[View, dict[str, bytes]] = {}
        self._tick = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reads: asyncio.Task[None] | None = None

    @property
    def _views(self) -> set[View]:
        return {view for _, view in self._viewers}

    def check_room(self, view: View, token_id: str) -> None:
        """Raise `Unavailable` where there are viewers enough, `TooManyRequests` where they see too
        many zones and event types, or the token has its share."""
        if self._viewers.total() >= MOST_VIEWERS:
            raise Unavailable(f"{MOST_VIEWERS} viewers are here, as many as may be; try later")
        if view not in self._views and len(self._views) >= MOST_VIEWS:
            raise TooManyRequests("time zones and event types of live pages", _RETRY_AFTER_S)
        of_token = {one[1]: n for one, n in self._viewers.items() if one[0] == token_id}
        if sum(of_token.values()) >= SHARE_OF_TOKEN * MOST_VIEWERS:
            raise TooManyRequests("live pages with this token", _RETRY_AFTER_S)
        if view not in of_token and len(of_token) >= SHARE_OF_TOKEN * MOST_VIEWS:
            what = "time zones and event types of live pages with this token"
            raise TooManyRequests(what, _RETRY_AFTER_S)

    async def stream(
        self, view: View, token_id: str, still_valid: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Server-sent events: `part` with `{name, html}` for each part that changed, `problem` with
        `{message}` while the numbers cannot be read. Ends when the server stops, or when the viewer
        may not read any more."""
        viewer = _Viewer(view, token_id)
        loop = asyncio.get_running_loop()
        with self._joined(viewer):
            asked_s = spoken_s = loop.time()
            yield _RECONNECT
            while not self._stopping.is_set():
                for event in viewer.take_news(self._drawn.get(view, {})):
                    yield event
                    spoken_s = loop.time()
                if loop.time() - spoken_s >= HEARTBEAT_S:
                    yield b": still here\n\n"
                    spoken_s = loop.time()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_S):
                        await self._tick.wait()
                if loop.time() - asked_s >= _ASK_VIEWER_S:
                    if not await still_valid():
                        return
                    asked_s = loop.time()
            yield b": the server stops\n\n"

    @contextlib.contextmanager
    def _joined(self, viewer: _Viewer) -> Iterator[None]:
        if viewer.view not in self._views:
            self._drawn.pop(viewer.view, None)  # of viewers who have gone
            self._hurry.set()
        place = viewer.token_id, viewer.view
        self._viewers[place] += 1
        if self._reads is None or self._reads.done():
            self._reads = asyncio.create_task(self._read_while_wanted())
        try:
            yield
        finally:
            self._viewers[place] -= 1
            self._viewers += Counter()  # without those of none

    async def _read_while_wanted(self) -> None:
        while self._viewers and not self._stopping.is_set():
            self._hurry.clear()
            self._drawn = await self._draw(list(self._views))
            done, self._tick = self._tick, asyncio.Event()
            done.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._hurry.wait()

    async def _draw(self, views: list[View]) -> dict[View, dict[str, bytes]]:
        try:
            return await self._threads.run_lookup(_FOR_ALL, 0, partial(self._draw_views, views))
        except RequestRefused as error:
            message = error.message.partition(";")[0]
        except PipelineError as error:
            message = str(error)
        except Exception:
            logger.exception("live numbers could not be read")
            message = InternalFault().message
        problem = {"problem": _encode("problem", {"message": f"{message}."})}
        return dict.fromkeys(views, problem)

    def _draw_views(self, views: list[View]) -> dict[View, dict[str, bytes]]:
        return {view: self._draw_view(view) for view in views}

    def _draw_view(self, view: View) -> dict[str, bytes]:
        state = PageState(zone=view.zone, event_type=view.event_type)
        parts = draw_parts(self._reader.read(view.event_type), state)
        return {
            name: _encode("part", {"name": name, "html": str(html)}) for name, html in parts.items()
        }


def _encode(name: str, data: dict[str, str]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), encode_json(data))
