"""The limits of a connection, on a clock of the test: no test waits for a time-out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from pipeline.web.errors import BodyTooSlow
from pipeline.web.server.connections import ConnectionLimits, Connections
from pipeline.web.server.protocol import MAX_PIPELINED, BoundedProtocol

LIMITS = ConnectionLimits()


class Wire(asyncio.Transport):
    """What the server writes; nothing is sent while the client does not read."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        super().__init__({"peername": (address, 1_234), "sockname": ("192.0.2.2", 80)})
        self.written = b""
        self.unsent = 0
        self.is_closed = self.is_aborted = self.is_lost = self.reads = False

    def write(self, data: Any) -> None:
        if self.is_lost:
            raise RuntimeError("the handler is closed")
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.is_closed or self.is_aborted

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


class Server:
    """A server without sockets, whose application answers paths as they say."""

    def __init__(self, limits: ConnectionLimits = LIMITS, proxies: tuple[str, ...] = ()) -> None:
        self.loop = asyncio.new_event_loop()
        self.connections = Connections(limits, proxies)
        self.bodies: list[bytes] = []
        self.released = asyncio.Event()
        self.refused: list[BodyTooSlow] = []
        config = uvicorn.Config(
            self.answer, log_config=None, lifespan="off", ws="none", interface="asgi3"
        )
        self._create = partial(BoundedProtocol, self.connections, config, ServerState(), {})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        try:
            while path == "/reads" and (message := await receive())["type"] == "http.request":
                self.bodies.append(message["body"])
                if not message["more_body"]:
                    break
        except BodyTooSlow as refused:
            self.refused.append(refused)
        if path == "/waits":
            await self.released.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    def connect(self, address: str = "192.0.2.1") -> tuple[BoundedProtocol, Wire]:
        protocol, wire = self._create(_loop=self.loop), Wire(address)
        protocol.connection_made(wire)
        return protocol, wire

    def run(self) -> None:
        """Let the application do what it can."""
        for _ in range(10):
            self.loop.run_until_complete(asyncio.sleep(0))

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.run()
        self.loop.close()


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*arguments: Any) -> Server:
        made.append(Server(*arguments))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    return make_server()


def head(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_body_is_taken_while_it_flows(server: Server) -> None:
    protocol, wire = server.connect()
    protocol.data_received(head("/reads", 480_000))
    server.run()
    for second in range(16):  # a slow phone's line
        protocol.check(second)
        protocol.data_received(b"x" * 30_000)
        server.run()
    assert len(b"".join(server.bodies)) == 480_000
    assert wire.written.startswith(b"HTTP/1.1 200")
    assert not wire.is_closing()


def test_the_route_is_given_an_error_when_a_body_comes_too_slowly(server: Server) -> None:
    protocol, wire = server.connect()
    protocol.data_received(head("/reads", 480_000))
    server.run()
    for second in range(12):
        protocol.check(second)
        protocol.data_received(b"x" * 900)
        server.run()
    assert server.refused[0].status == 408
    assert "10240 bytes in each 10 s" in str(server.refused[0])
    assert wire.written.startswith(b"HTTP/1.1 200")  # the answer of this route


def test_a_body_must_come_to_an_end(server: Server) -> None:
    protocol, _ = server.connect()
    protocol.data_received(head("/reads", 480_000_000))
    server.run()
    for second in range(int(LIMITS.body_s) + 2):
        assert not server.refused
        protocol.check(second)
        protocol.data_received(b"x" * 2_000)
        server.run()
    protocol.check(LIMITS.body_s + 2)
    server.run()
    assert server.refused


def test_a_route_that_reads_no_body_is_not_waited_for(server: Server) -> None:
    protocol, wire = server.connect()
    protocol.data_received(head("/waits", 100))
    server.run()
    for now_s in (0, 11, 22):
        assert not wire.is_closed
        protocol.check(now_s)
    assert wire.is_closed


def test_the_rest_of_a_body_that_is_answered_must_come_too(server: Server) -> None:
    protocol, wire = server.connect()
    protocol.data_received(head("/livez", 100_000))
    server.run()
    assert wire.written.startswith(b"HTTP/1.1 200")
    protocol.check(0)
    protocol.data_received(b"x")
    protocol.check(4)
    assert not wire.is_closed
    protocol.check(11)
    assert wire.is_closed


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET / HT"])
def test_a_head_must_come_in_time_whatever_precedes_it(server: Server, sent: bytes) -> None:
    protocol, wire = server.connect()
    protocol.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    server.run()
    protocol.data_received(sent)
    for second in range(11):
        protocol.check(second)
        protocol.data_received(sent[:2] if sent == b"\r\n" else b"")
    assert not wire.is_closed
    protocol.check(11)
    assert wire.is_closed


def test_a_client_that_takes_no_answer_is_cut_off(server: Server) -> None:
    protocol, wire = server.connect()
    wire.unsent = 1_000_000
    for second in range(30):
        wire.unsent -= 1_100  # slow, and it does go on
        protocol.check(second)
    assert not wire.is_aborted
    for second in range(30, 42):
        protocol.check(second)
    assert wire.is_aborted


def test_pipelined_requests_past_a_number_end_the_connection_after_their_answers(
    server: Server,
) -> None:
    protocol, wire = server.connect()
    protocol.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000)
    assert len(protocol.pipeline) == MAX_PIPELINED
    for _ in range(MAX_PIPELINED + 1):
        server.run()
    assert wire.written.count(b"HTTP/1.1 200") == MAX_PIPELINED + 1
    assert wire.written.count(b"connection: close") == 1
    assert wire.is_closed


def test_no_answer_is_made_for_a_client_that_has_not_taken_the_one_before(
    server: Server,
) -> None:
    protocol, wire = server.connect()
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    protocol.data_received(request)
    server.run()
    protocol.pause_writing()  # what asyncio calls when enough waits to be sent
    protocol.data_received(request * 3)
    server.run()
    assert wire.written.count(b"HTTP/1.1 200") == 1
    assert not wire.reads
    protocol.resume_writing()
    for _ in range(3):
        server.run()
    assert wire.written.count(b"HTTP/1.1 200") == 4
    assert wire.reads


def test_a_request_that_waits_for_its_client_ends_with_the_connection(server: Server) -> None:
    protocol, wire = server.connect()
    protocol.pause_writing()
    protocol.data_received(head("/reads", 1_000) + bytes(500))
    assert protocol.check(0) == 500
    wire.is_lost = wire.is_closed = True
    protocol.connection_lost(None)
    protocol.resume_writing()
    server.run()
    assert wire.written == b""
    assert not server.bodies


def test_no_request_is_answered_on_a_connection_that_is_lost(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    protocol, wire = server.connect()
    protocol.data_received(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    server.run()
    wire.is_lost = wire.is_closed = True
    protocol.connection_lost(None)
    server.released.set()
    server.run()
    assert wire.written == b""
    assert caplog.records == []


def test_no_answer_to_another_request_is_taken_for_that_to_garbage(server: Server) -> None:
    protocol, wire = server.connect()
    protocol.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01\r\n\r\n")
    server.run()
    assert wire.written.count(b"HTTP/1.1 ") == 1
    assert b" 200 " in wire.written
    assert wire.is_closed


def test_of_one_address_the_connection_idle_for_longest_ends(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(ConnectionLimits(connections_of_address=2))
    oldest, kept = server.connect("2001:db8::1"), server.connect("2001:db8::2")
    oldest[0].data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    server.run()
    others = [server.connect("2001:db8::3"), server.connect("2001:db8:1::1")]
    assert kept[1].is_aborted
    assert not any(wire.is_aborted for _, wire in (oldest, *others))


def test_any_number_of_connections_comes_from_a_trusted_proxy(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(ConnectionLimits(connections_of_address=2), ("10.0.0.0/8",))
    through = [server.connect(f"::ffff:10.0.0.{number % 2}") for number in range(9)]
    assert not any(wire.is_aborted for _, wire in through)


def test_when_there_are_too_many_an_answer_on_the_way_is_spared(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(ConnectionLimits(connections=4))
    served = server.connect("192.0.2.1")
    served[0].data_received(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
    others = [server.connect(f"192.0.2.{number}") for number in range(2, 7)]
    assert [wire.is_aborted for _, wire in others] == [True, True, False, False, False]
    assert not served[1].is_aborted


def test_what_all_connections_hold_is_bounded(make_server: Callable[..., Server]) -> None:
    server = make_server(ConnectionLimits(held_bytes=1_000))
    large, small = server.connect("192.0.2.1"), server.connect("192.0.2.2")
    large[1].unsent, small[1].unsent = 900, 200
    server.connections.check_all(server.loop)
    assert large[1].is_aborted
    assert not small[1].is_aborted
