"""The limits of a connection, on a clock of the test: no test waits for a time-out."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from uvicorn.server import ServerState

from pipeline.web.server.connections import ConnectionLimits
from pipeline.web.server.protocol import MAX_PIPELINED, BufferedConnection
from tests.helpers.wired_server import LIMITS, Server, Wire, head


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
    assert len(server.begun) == 1
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


def test_nothing_stays_of_a_connection_that_is_lost(server: Server) -> None:
    protocol, _ = server.connect()
    protocol.data_received(head("/livez", 100))
    server.run()
    protocol.connection_lost(ConnectionResetError())
    protocol._unset_keepalive_if_required()
    left = weakref.ref(protocol)
    gc.disable()
    try:
        del protocol
        assert left() is None
    finally:
        gc.enable()


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


def test_a_body_is_not_taken_before_it_is_asked_for(server: Server) -> None:
    waiting, asked = server.connect(), server.connect()
    for (protocol, _), path in ((waiting, "/waits"), (asked, "/reads")):
        protocol.data_received(head(path, 500_000) + b"x")
        assert protocol.flow.read_paused
    server.run()
    assert waiting[0].flow.read_paused
    assert not asked[0].flow.read_paused
    assert not waiting[0].is_served()


def test_a_loop_reads_little_of_each_connection_at_once(server: Server) -> None:
    seen = BufferedConnection(
        server.connections,
        config=server.config,
        server_state=ServerState(),
        app_state={},
        _loop=server.loop,
    )
    wire = Wire()
    seen.connection_made(wire)
    sent = head("/reads", 50_000) + b"x" * 50_000
    sizes = []
    while sent:
        buffer = seen.get_buffer(256_000)
        sizes.append(size := min(len(buffer), len(sent)))
        buffer[:size], sent = sent[:size], sent[size:]
        seen.buffer_updated(size)
        server.run()
    assert sizes[0] == 16 * 1024
    assert len(sizes) == 2
    assert b"".join(server.bodies) == b"x" * 50_000
    assert wire.written.startswith(b"HTTP/1.1 200")


def test_of_bodies_that_no_route_reads_little_is_taken(server: Server) -> None:
    clients = [server.connect(f"192.0.2.{number}")[0] for number in range(100)]
    for protocol in clients:
        protocol.data_received(head("/livez", 900_000))
    server.run()

    def send() -> int:
        taken = 0
        for protocol in clients * 13:
            if not protocol.flow.read_paused:
                protocol.data_received(b"x" * 64 * 1024)
                taken += 64 * 1024
        return taken

    assert 100 * 64 * 1024 <= send() < 20_000_000
    assert all(protocol.flow.read_paused for protocol in clients)
    server.connections.check_all(server.loop)
    server.connections.check_all(server.loop)
    assert 0 < send() < 10_000_000


def test_a_body_without_end_that_no_route_reads_ends_its_connection(server: Server) -> None:
    protocol, wire = server.connect()
    protocol.data_received(head("/livez", 100_000_000))
    server.run()
    for _ in range(17):
        assert not wire.is_closed
        protocol.data_received(b"x" * 64 * 1024)
    assert wire.is_closed


def test_a_client_can_read_why_it_is_refused_after_it_has_sent(server: Server) -> None:
    protocol, wire = server.connect()
    closing = head("/livez", 60_000).replace(b"Host", b"Connection: close\r\nHost")
    protocol.data_received(closing)
    server.run()
    assert b"connection: close" in wire.written
    assert not wire.is_closed
    protocol.data_received(b"x" * 60_000 + b"GET /livez HTTP/1.1\r\n\r\n")
    server.run()
    assert wire.is_closed
    assert wire.written.count(b"HTTP/1.1 ") == 1


def test_an_address_that_reopens_what_was_ended_is_turned_away(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(ConnectionLimits(connections_of_address=2))
    ended = 0
    for _ in range(3_000):
        protocol, wire = server.connect()
        ended += wire.is_aborted
        protocol.data_received(b"GET /livez HT")
    assert 1_000 < ended < 2_000
    assert not server.connect("192.0.2.9")[1].is_aborted


def test_an_office_may_open_any_number_of_connections_in_place_of_idle_ones(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(ConnectionLimits(connections_of_address=2))
    for _ in range(1_500):
        protocol, wire = server.connect()
        protocol.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        server.loop.run_until_complete(asyncio.sleep(0))
        server.loop.run_until_complete(asyncio.sleep(0))
        assert wire.written.startswith(b"HTTP/1.1 200")
        assert not wire.is_aborted
