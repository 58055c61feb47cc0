"""Which connections wait for their turn, what stays of those that end, and what is logged."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator
from contextlib import closing

import pytest

from pipeline.web.server.connections import ConnectionLimits
from tests.helpers.wired_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with closing(Server(ConnectionLimits(connections=100))) as made:
        yield made


def test_what_an_address_reopens_fast_waits_for_its_turn_and_no_other_does(
    server: Server,
) -> None:
    ask = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(150):
        server.connect("192.0.2.1")[0].data_received(b"GET /livez HT")
    reopened = [server.connect("192.0.2.1") for _ in range(50)]
    for number, (protocol, _) in enumerate(reopened):
        protocol.data_received(ask % number)
    honest, wire = server.connect("192.0.2.9")
    honest.data_received(b"GET /honest HTTP/1.1\r\nHost: x\r\n\r\n")
    server.run()
    assert "/honest" in server.begun
    assert len(server.begun) < 25  # so many would have had their turns after 0.1 s
    assert wire.written.startswith(b"HTTP/1.1 200")
    # One after the other, in the order in which they came; one that has gone is passed over.
    reopened[30][0].connection_lost(None)
    for _ in range(2_000):
        server.loop.run_until_complete(asyncio.sleep(0.001))
        if len(server.begun) == 50:  # all but the one that has gone
            break
    server.begun.remove("/honest")
    assert server.begun[:1] + server.begun[-1:] == ["/0", "/49"]
    assert server.begun == sorted(server.begun, key=lambda path: int(path[1:]))


def test_a_connection_that_waits_for_its_turn_ends_before_one_that_is_answered(
    server: Server,
) -> None:
    answered, kept = server.connect("192.0.2.9")
    answered.data_received(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(400):
        server.connect("192.0.2.1")[0].data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not kept.is_aborted


def test_no_access_is_logged_however_logging_is_set_up(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("uvicorn.access")
    was = logger.propagate
    logger.propagate = True
    try:
        with caplog.at_level("DEBUG"):
            server.connect()[0].data_received(b"GET /k/secret HTTP/1.1\r\nHost: x\r\n\r\n")
            server.run()
    finally:
        logger.propagate = was
    assert server.begun == ["/k/secret"]
    assert "secret" not in caplog.text


def test_nothing_stays_of_a_connection_that_ends_before_its_turn(
    server: Server,
) -> None:
    for _ in range(150):
        server.connect("192.0.2.1")[0].data_received(b"GET /livez HT")
    protocol = server.connect("192.0.2.1")[0]
    assert protocol.waits
    protocol.data_received(2 * b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    left = weakref.ref(protocol)
    gc.disable()
    try:
        protocol.connection_lost(None)
        del protocol
        assert left() is None
    finally:
        gc.enable()
