"""A connection of uvicorn's with limits in time and memory, which hold for every route.

uvicorn waits for ever for heads, bodies and clients that do not read, and keeps whatever comes: it
leaves that to a proxy. What is enforced once here cannot be forgotten for a route.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Any

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from pipeline.web.addresses import unmap_address
from pipeline.web.errors import BodyTooSlow, RequestRefused, Unavailable
from pipeline.web.headers import NO_STORE, encode_headers
from pipeline.web.responses import encode_json, error_content, error_response
from pipeline.web.server.connections import MOST_READ_BYTES, Connections

MAX_HEAD_BYTES = 256 * 1024
"""What a request may have beside its body: its head, and what chunks and trailers add."""
MAX_PIPELINED = 16
"""Requests of a connection that wait for an answer to the one before."""
_LEAST_READ_BYTES = 16 * 1024
"""Of a connection at a time, before a body is asked for: a usual request is in it."""
_FREE_UNREAD_BYTES = 64 * 1024
"""Of a body that no route reads, taken at once: a client that reads only after it has sent would
otherwise see a reset connection and no answer."""
_MOST_UNREAD_BYTES = 1024 * 1024


class _Stage(Enum):
    """What a connection waits for."""

    HEAD = auto()
    BODY = auto()
    UNREAD_BODY = auto()
    """The rest of a body whose request is answered already."""
    ANSWER = auto()


class BoundedProtocol(HttpToolsProtocol):
    """A connection that ends when its client sends or reads too slowly, or too much.

    What happens to a request only counts; `check` compares, twice a second.
    """

    address = group = ""
    used_in = -1
    waits = False

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Whatever logging is set up later: paths hold keys.
        self.access_log = False
        self._connections, self._limits = connections, connections.limits
        self._application = self.app
        self._stage: tuple[_Stage, int] | None = None
        self._answered: RequestResponseCycle | None = None
        self._held_back: tuple[RequestResponseCycle, ASGI3Application] | None = None
        self._stage_since_s = self._window_since_s = self._unsent_since_s = 0.0
        self._requests = self._received = self._window_received = self._unsent = 0
        self._beside_body = self._unread = 0
        self._is_in_head = self.is_in_body = self._is_refusing_more = False
        self._is_lingering = False

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; its first head is due."""
        super().connection_made(transport)
        if self.client:
            self.address = unmap_address(self.client[0])
            self.client = self.address, self.client[1]
        if not self._connections.add(self, self.loop):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._connections.remove(self)
        super().connection_lost(exc)
        # uvicorn does this for the newest request alone: an answer to one before would be written
        # to a closed socket, and a stream would never end.
        for cycle in self._list_open():
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle is not self._answered:  # never begun
                cycle.on_response = _do_nothing  # what refers to itself would stay for long
        self.pipeline.clear()
        self._held_back = None
        if self.cycle is not None:
            self.cycle.transport = self.transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go to: no more of them than may be kept before they are wanted."""
        buffer = self._connections.buffer
        return buffer if self.is_in_body else buffer[:_LEAST_READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        self.data_received(self._connections.buffer[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Bytes have arrived: of a head, of a body, or of both."""
        if self._is_refusing_more:
            return
        self._received += len(data)
        self._beside_body += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.logger.debug("a client wants another protocol; it is answered by HTTP/1.1")
        except httptools.HttpParserError:
            if not self._is_refusing_more:
                self._refuse_malformed()
        else:
            if self._beside_body > MAX_HEAD_BYTES:
                self.transport.close()
            if self.is_in_body:
                self._read_less(len(data))

    def _read_less(self, size: int) -> None:
        """Read no more of a body before it is asked for, and little of one that no route reads."""
        cycle = self.cycle
        if not cycle.response_complete:
            if cycle.body:
                self.flow.pause_reading()
            if cycle.transport is self.transport:
                cycle.transport = _LingeringTransport(self)  # type: ignore[assignment]
            return
        self._unread += size
        if self._unread > _MOST_UNREAD_BYTES:
            self.transport.close()
        elif self._unread > _FREE_UNREAD_BYTES and not self._connections.take_unread(size):
            self.flow.pause_reading()  # until a check finds room

    def resume_writing(self) -> None:
        """The client has taken most of what waited to be sent."""
        super().resume_writing()
        self.take_turn()

    def take_turn(self) -> None:
        """Answer what was held back."""
        if self._held_back is not None and not self.transport.is_closing():
            cycle, app = self._held_back
            self._held_back = None
            if not self.pipeline:
                self.flow.resume_reading()
            self._start_asgi_task(cycle, app)

    # What the parser calls

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_in_head = True
        self._requests += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is all there."""
        self._is_in_head, self.is_in_body, self._unread = False, True, 0
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse_more()
        self._connections.use(self)
        overloaded = len(self.tasks) >= self._limits.connections
        self.app = _refuse_overload if overloaded else self._application
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body, which the application bounds."""
        self._beside_body -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is all there."""
        self.is_in_body = False
        self._beside_body = 0
        super().on_message_complete()
        if self._is_lingering:
            self.transport.close()
            self._is_refusing_more = True
            raise httptools.HttpParserError("the connection was to be closed")  # ends the parsing

    def close_after_body(self) -> None:
        """End the connection when a body that no route read has come, or as much as is taken of
        it: were it ended before, its client could not read the answer."""
        if self.is_in_body:
            self._is_lingering = True
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.flow.write_paused or self.waits:
            # No answer is made for a client that has not taken the one before, or before its turn.
            self._held_back = cycle, app
            self.flow.pause_reading()
            return
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    # What the limits ask

    def is_served(self) -> bool:
        """Whether a request is all there and its answer is on the way to a client that reads."""
        is_answering = self._find_stage() is _Stage.ANSWER and not self.is_in_body
        return is_answering and self._held_back is None and not self.flow.write_paused

    def is_idle(self) -> bool:
        """Whether all its requests are answered, and no other has begun."""
        cycle = self._newest()
        is_between = not (self._is_in_head or self.is_in_body)
        return is_between and cycle is not None and cycle.response_complete

    def abort(self) -> None:
        """End the connection now, whatever waits to be sent."""
        self.transport.abort()

    def check(self, now_s: float) -> int:
        """Enforce the limits in time; returns the bytes held for this connection."""
        unsent = self.transport.get_write_buffer_size()
        self._check_reader(unsent, now_s)
        stage = self._find_stage()
        if self._stage != (stage, self._requests):
            self._stage = stage, self._requests
            self._stage_since_s = now_s
            self._begin_window(now_s)
        elif stage is _Stage.HEAD:
            if now_s - self._stage_since_s > self._limits.head_s:
                self.transport.close()
        elif stage is not _Stage.ANSWER:
            self._check_body(stage, now_s)
        return unsent + sum(len(cycle.body) for cycle in self._list_open())

    def _list_open(self) -> list[RequestResponseCycle]:
        """The request that is or was answered last, and those that wait behind it."""
        waiting = [cycle for cycle, _ in self.pipeline]
        if self._held_back is not None:
            waiting.append(self._held_back[0])
        return waiting if self._answered is None else [self._answered, *waiting]

    def _newest(self) -> RequestResponseCycle | None:
        """The request that came last; None before the first."""
        return self.cycle

    def _find_stage(self) -> _Stage:
        cycle = self._newest()
        answered = cycle is None or cycle.response_complete
        if not answered and self.flow.read_paused:
            return _Stage.ANSWER  # nothing is taken from the client, so it is not what is slow
        if self.is_in_body:
            return _Stage.UNREAD_BODY if answered else _Stage.BODY
        return _Stage.HEAD if answered or self._is_in_head else _Stage.ANSWER

    def _check_body(self, stage: _Stage, now_s: float) -> None:
        limits = self._limits
        if self.flow.read_paused and self._connections.take_unread(MOST_READ_BYTES):
            self.flow.resume_reading()
        longest_s = limits.body_s if stage is _Stage.BODY else limits.unread_body_s
        is_late = now_s - self._stage_since_s > longest_s
        if not is_late and now_s - self._window_since_s <= limits.window_s:
            return
        if is_late or self._received - self._window_received < limits.window_bytes:
            self._refuse_body()
        self._begin_window(now_s)

    def _begin_window(self, now_s: float) -> None:
        self._window_since_s, self._window_received = now_s, self._received

    def _refuse_body(self) -> None:
        """Have the route answer 408 where it reads the body; end the connection where it does not,
        or has not done so since the last window."""
        cycle = self.cycle
        if cycle.response_started or isinstance(cycle.body, _SlowBody):
            self.transport.close()
        else:
            cycle.transport = self.transport  # the rest of the body is not waited for
            cycle.body = _SlowBody(self._limits.window_bytes, self._limits.window_s)
            cycle.message_event.set()

    def _check_reader(self, unsent: int, now_s: float) -> None:
        """End the connection of a client that takes its answers too slowly."""
        if not self._unsent or unsent <= max(self._unsent - self._limits.window_bytes, 0):
            self._unsent, self._unsent_since_s = unsent, now_s
        elif now_s - self._unsent_since_s > self._limits.window_s:
            self.abort()

    # What is refused

    def _refuse_more(self) -> None:
        """Answer the requests that wait, then end the connection; what follows is not parsed."""
        self._is_refusing_more, self.is_in_body = True, False
        self.cycle.keep_alive = False
        raise httptools.HttpParserError("too many requests wait")  # ends the parsing

    def _refuse_malformed(self) -> None:
        """Answer 400, unless it could be taken for the answer to a request before, which is
        answered first. Not logged: anyone can cause it at any rate."""
        self.logger.debug("a client sent no HTTP")
        cycle = self._newest()
        if cycle is None or cycle.response_complete:
            self._answer_malformed()
        elif not self.is_in_body:
            self._is_refusing_more, self._is_in_head = True, False
            cycle.keep_alive = False
            return
        elif not self.pipeline and not cycle.response_started:
            self._answer_malformed()
        self.transport.close()

    def _answer_malformed(self) -> None:
        headers = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        self.transport.write(b"".join([STATUS_LINE[400], *headers, _MALFORMED]))


def _do_nothing() -> None:
    pass


class BufferedConnection(asyncio.BufferedProtocol):
    """A connection as asyncio sees it, which reads as much as the protocol says: by itself it would
    read a quarter of a megabyte at once for each, before any request could be refused.

    uvicorn's protocol cannot be of this kind. asyncio calls its methods without a step between.
    """

    def __init__(self, connections: Connections, **uvicorns: Any) -> None:
        protocol = BoundedProtocol(connections, **uvicorns)
        for name in _CALLED:
            setattr(self, name, getattr(protocol, name))


_CALLED = (
    *("connection_made", "connection_lost", "get_buffer", "buffer_updated", "eof_received"),
    *("pause_writing", "resume_writing"),
)


class _LingeringTransport:
    """The transport of an answer that may be complete before the request is."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self.close = protocol.close_after_body
        self.write, self.is_closing = protocol.transport.write, protocol.transport.is_closing


class _SlowBody(bytearray):
    """Stands in for a body that comes too slowly: the route that reads it gets `BodyTooSlow`."""

    def __init__(self, least_bytes: int, window_s: float) -> None:
        super().__init__()
        self._refused = BodyTooSlow(least_bytes, window_s)

    def __iadd__(self, _: object) -> _SlowBody:
        return self

    def __bytes__(self) -> bytes:
        raise self._refused


async def _refuse_overload(scope: Scope, receive: Receive, send: Send) -> None:
    """As many requests are being worked on as may be, those of clients gone included."""
    await error_response(Unavailable("too many requests at once; try again"))(scope, receive, send)


def _render_malformed() -> bytes:
    refused = RequestRefused(400, "malformed", "this is no HTTP/1.1 request; see /docs")
    body = encode_json(error_content(refused))
    headers = {**NO_STORE, "Content-Type": "application/json", "Connection": "close"}
    headers["Content-Length"] = str(len(body))
    lines = [b"%b: %b" % header for header in encode_headers(headers)]
    return b"\r\n".join([*lines, b"", body])


_MALFORMED = _render_malformed()
