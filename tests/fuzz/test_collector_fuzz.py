"""Whatever is sent to the collector: it answers without a fault, goes on serving others in bounded
memory, and what it says yes to is counted."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest
from hypothesis import given

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from tests.fuzz.budget import fuzz
from tests.fuzz.memory import MAY_GROW_BYTES, memory_bytes
from tests.fuzz.strategies.requests import pixel_queries, requests
from tests.helpers.support import Workers
from tests.helpers.web_process import WebProcess, lately, wait_until_consumed

EXAMPLES = 400
ANSWERS = {200, 202, 204, 400, 403, 405, 413, 415}
"""Of requests with a valid key, none of which is slow, too frequent or at a bad time."""
NO_LIMITS = dict.fromkeys(
    ("KEY_EVENTS_PER_S", "PAGE_KEY_EVENTS_PER_S", "ADDRESS_REQUESTS_PER_S"), "0"
)

pytestmark = pytest.mark.timeout(300)


class Client:
    """Sends what it is told with a valid key, over one connection while the server keeps it."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._basic = "Basic " + b64encode(f"{key}:".encode()).decode()

    def send(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, bytes]:
        """Status and body of the answer."""
        given = {"Authorization": self._basic, **(headers or {})}
        self._connection.request(method, target, body, given)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def track(self, event_type: str) -> None:
        """Send one good event, which must be taken."""
        call = {"event": event_type, "userId": "u1"}
        assert self.send("POST", "/v1/track", body=json.dumps(call).encode())[0] == 200

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def web(workers: Workers) -> WebProcess:
    return WebProcess(workers).start(**NO_LIMITS)


@pytest.fixture
def key(services: Services) -> str:
    return AccessKeyStore(services.redis, services.keys).create("write", "fuzz", ["*"])[1]


@pytest.fixture
def client(web: WebProcess, key: str) -> Iterator[Client]:
    client = Client(web.port, key)
    for _ in range(200):  # warm
        client.track("warm")
    yield client
    client.close()


def count_all(services: Services, workers: Workers) -> None:
    """Have a worker count what was accepted: none of it may be a dead letter."""
    workers.start("events")
    wait_until_consumed(services)
    books = services.status()["books"]
    assert books["consumed"] == books["published"] == books["counted"] + books["duplicate"]
    assert books["dead"] == 0
    assert books["balanced"]


def check_answer(status: int, body: bytes) -> None:
    assert status in ANSWERS, (status, body)
    assert b"Traceback" not in body
    if status >= 400:
        told = json.loads(body)
        told = told.get("error", told)
        assert told["code"]
        assert told["message"]


def test_any_body_is_answered_and_what_is_taken_is_counted(
    web: WebProcess, client: Client, services: Services, workers: Workers
) -> None:
    before_bytes = memory_bytes(web.pid)

    @given(request=requests())
    def check(request: tuple[str, str, dict[str, str], bytes]) -> None:
        status, body = client.send(*request)
        if not request[1].startswith("/k/"):  # no key, and it counts before the one in the head
            check_answer(status, body)
        else:
            assert status in ANSWERS | {401}
        client.track("others")

    tried = fuzz(check, EXAMPLES)

    assert memory_bytes(web.pid) - before_bytes < MAY_GROW_BYTES
    assert "Traceback" not in web.said()
    count_all(services, workers)
    assert services.stats.count("others", *lately()) >= tried


def test_any_query_of_a_pixel_is_answered_and_what_is_taken_is_counted(
    web: WebProcess, client: Client, services: Services, workers: Workers
) -> None:
    @given(query=pixel_queries)
    def check(query: list[tuple[str, str]]) -> None:
        target = "/pixel.gif?" + urlencode(query, errors="surrogatepass")
        status, body = client.send("GET", target)
        assert status in ANSWERS, (status, body)
        assert body.startswith(b"GIF89a")

    fuzz(check, EXAMPLES // 2)

    assert "Traceback" not in web.said()
    count_all(services, workers)


def test_gzip_bombs_take_no_memory(web: WebProcess, client: Client) -> None:
    bomb = gzip.compress(b'{"event": "' + bytes(200 * 2**20) + b'"}')
    assert len(bomb) < 500 * 1024  # as large as a batch may be
    twice = gzip.compress(bomb)
    before_bytes = memory_bytes(web.pid)

    for body in [bomb, twice] * 10:
        for path in ("/v1/batch", "/v1/track", "/track", "/api/event"):
            status, _ = client.send("POST", path, {"Content-Encoding": "gzip"}, body)
            assert status in {400, 413}
            client.close()  # the server has not read all of it

    client.track("others")
    assert memory_bytes(web.pid) - before_bytes < MAY_GROW_BYTES


def test_ten_thousand_names_are_counted_in_bounded_memory(
    web: WebProcess, client: Client, services: Services, workers: Workers
) -> None:
    before_bytes = memory_bytes(web.pid)
    for first in range(0, 10_000, 500):
        batch = [{"type": "track", "event": f"name {n}"} for n in range(first, first + 500)]
        body = json.dumps({"batch": batch}).encode()
        assert client.send("POST", "/v1/batch", {"User-Agent": f"agent {first}"}, body)[0] == 200
    for n in range(2_000):
        headers = {"User-Agent": f"browser {n}" * 50, "Origin": f"https://site{n}.example"}
        client.send("POST", "/v1/track", headers, b'{"event": "named"}')

    assert memory_bytes(web.pid) - before_bytes < MAY_GROW_BYTES
    count_all(services, workers)
    # Of 12,000 events the first of each type up to the cap have names of their own.
    assert services.stats.count("name 0", *lately()) == 1
    assert services.stats.count("name 9999", *lately()) == 0
    assert 11_000 <= services.stats.count("__other__", *lately()) < 12_000


def test_slow_bodies_hold_up_nobody_and_take_bounded_memory(
    web: WebProcess, client: Client, key: str
) -> None:
    head = (
        "POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n"
        f"Authorization: Basic {b64encode(f'{key}:'.encode()).decode()}\r\n\r\n"
    ).encode()
    before_bytes = memory_bytes(web.pid)
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=30))
            for _ in range(300)
        ]
        for one in slow:
            one.sendall(head + b"x" * 100_000)
        for _ in range(200):
            client.track("others")
        # 64 MiB are there for bodies that are under way; past that they are told to come back.
        assert memory_bytes(web.pid) - before_bytes < 3 * MAY_GROW_BYTES
        answers = [one.recv(1_000).split(b"\r\n", 1)[0] for one in slow]

    assert set(answers) <= {b"HTTP/1.1 408 Request Timeout", b"HTTP/1.1 503 Service Unavailable"}
    assert "Traceback" not in web.said()
    client.close()  # the server has, after a while without a request
    client.track("others")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"POST /v1/track HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        b"POST /v1/track HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"\x00" * 10_000,
    ],
    ids=["tls", "long", "negative", "huge", "chunk", "headers", "both", "nul"],
)
def test_what_is_no_request_ends_its_connection_only(
    web: WebProcess, client: Client, sent: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(10_000)
        except OSError:
            answer = b""

    assert not answer or answer.split(b" ")[1].startswith(b"4")
    assert b"Traceback" not in answer
    client.track("others")
    assert "Traceback" not in web.said()
