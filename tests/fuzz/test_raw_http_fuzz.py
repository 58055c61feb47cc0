"""Whatever bytes reach the port: the web server answers by the rules of HTTP or closes, and serves
others."""

from __future__ import annotations

import errno
import http.client
import json
import socket
from base64 import b64encode
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from tests.fuzz.budget import fuzz
from tests.fuzz.memory import MAY_GROW_BYTES, memory_bytes
from tests.fuzz.strategies.requests import PATHS, bodies
from tests.helpers.support import Workers
from tests.helpers.web_process import WebProcess, lately, wait_until_consumed

EXAMPLES = 120
NO_LIMITS = {"KEY_EVENTS_PER_S": "0", "ADDRESS_REQUESTS_PER_S": "0"}

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]

TARGETS = (
    *(*PATHS, "/", "*", "/livez", "/readyz", "/version", "/docs", "/openapi.json", "/pixel.gif"),
    *("/analytics.js", "/api/stats/count", "/api/users/%00", "/api/users/%ff", "//x/..", "x:80"),
    *("http://other.example/livez", "/api/stats/count/", "/" + "a" * 70_000, "/%", "/?%", "é"),
)
HEADERS = (
    *("Host: x", "Host:", "Content-Length: 5", "Content-Length: -1", "Content-Length: 1, 1"),
    *("Content-Length: 99999999999999999999", "Content-Length: +5", "Content-Length:"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: x"),
    *("Expect: 100-continue", "Connection: close", "Connection: upgrade", "Upgrade: websocket"),
    *("Upgrade: h2c", "Content-Encoding: gzip", "Origin: null", "Origin: https://a.example"),
    *("Access-Control-Request-Method: POST", "Cookie: " + "a" * 9_000, " folded", ": x", "\x00: x"),
    *("X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: é", "Accept: */*;q=x", "Range: bytes=0-1"),
    *("If-None-Match: *", "Authorization: Basic !", "Authorization: Bearer rt_x_y", "A: é\x7f"),
)
METHODS = ("POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "CONNECT", "PRI", "x", "")
CHUNKS = (
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"zz\r\n",
    b"-1\r\n",
    b"ffffffffffffffff\r\n",
    b"5;a=b\r\n",
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """One or several requests, whole or not, or anything else."""
    sent = b""
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 6)) == 0:
            sent += draw(st.binary(max_size=100))
            continue
        version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2", "HTTP/9.9"]))
        target = draw(st.sampled_from(TARGETS))
        first = f"{draw(st.sampled_from(METHODS))} {target} {version}"
        lines = [first, *draw(st.lists(st.sampled_from(HEADERS), max_size=5))]
        body = draw(bodies() | st.lists(st.sampled_from(CHUNKS), max_size=3).map(b"".join))
        if draw(st.booleans()):
            lines.append(f"Content-Length: {len(body)}")
        end = draw(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"]))
        sent += (end.join(lines) + end * 2).encode() + body
    cut = draw(st.integers(0, 3)) == 0
    return sent[: draw(st.integers(0, len(sent)))] if cut else sent


def answer_to(port: int, sent: bytes) -> bytes:
    """What the server sends until it closes, having been sent this and no more.

    The server may close before it has read all, which ends the answer.
    """
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while received := connection.recv(65_536):
                answer += received
        except OSError as error:  # shutting down what was closed is no ConnectionError
            if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
                raise
    return answer


def check_answer(answer: bytes) -> None:
    """Statuses are those of a request that was right or wrong, not of a server that failed."""
    if answer:
        assert answer.startswith(b"HTTP/1.1 "), answer[:80]
        assert answer[9:10] in b"1234", answer[:500]
    assert b"Traceback" not in answer
    assert b"HTTP/1.1 5" not in answer


def test_any_bytes_are_answered_by_the_rules_and_others_are_served(
    workers: Workers, services: Services
) -> None:
    web = WebProcess(workers).start(**NO_LIMITS)
    key = AccessKeyStore(services.redis, services.keys).create("write", "fuzz", ["*"])[1]
    basic = {"Authorization": "Basic " + b64encode(f"{key}:".encode()).decode()}
    good = json.dumps({"event": "others"}).encode()
    others = http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)
    before_bytes, served = 0, 0

    @given(sent=streams())
    def check(sent: bytes) -> None:
        nonlocal before_bytes, served
        check_answer(answer_to(web.port, sent))
        others.request("POST", "/v1/track", good, basic)
        response = others.getresponse()
        assert response.read() == b'{"success":true}'
        served += 1
        before_bytes = before_bytes or memory_bytes(web.pid)

    with closing(others):
        fuzz(check, EXAMPLES)

    assert memory_bytes(web.pid) - before_bytes < MAY_GROW_BYTES
    assert "Traceback" not in web.said()
    workers.start("events")
    wait_until_consumed(services)
    assert services.stats.count("others", *lately()) == served
