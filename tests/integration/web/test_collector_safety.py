"""From where, how much and how large: whatever is refused is counted nowhere."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable

import pytest
import redis

from pipeline.web.server.connections import ConnectionLimits
from tests.helpers.support import eventually, sent
from tests.helpers.web_server import BODIES, WebServer, basic

MakeWeb = Callable[..., WebServer]


# Origins


@pytest.fixture
def shop_key(web: WebServer) -> str:
    """The only key that is not for servers or tests: of the pages of one shop."""
    web.dependencies.access_keys.revoke(web.key)
    return web.dependencies.access_keys.create("write", "shop", ["https://shop.example"])[1]


def test_a_page_may_use_a_key_that_allows_its_origin(
    web: WebServer, shop_key: str, client: redis.Redis
) -> None:
    for path, body in BODIES.items():
        answer = web.post(path, body, shop_key, Origin="https://shop.example")
        assert answer.status in (200, 202), path
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert answer.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://shop.example",
        "https://shop.example:444",
        "null",
        "https://x",
    ],
)
def test_a_page_of_another_origin_may_not(
    web: WebServer, shop_key: str, client: redis.Redis, origin: str
) -> None:
    for path, body in BODIES.items():
        answer = web.post(path, body, shop_key, Origin=origin)
        assert answer.status == 403, path
        assert "access-control-allow-origin" not in answer.headers
    assert sent(client) == []


def test_a_preflight_is_answered_for_origins_that_any_key_allows(
    web: WebServer, shop_key: str
) -> None:
    asked = {"Access-Control-Request-Method": "POST"}
    for path in BODIES:
        headers = {**asked, "Origin": "https://shop.example"}
        allowed = web.send("OPTIONS", path, headers=headers)
        assert allowed.status == 204, path
        assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
        assert allowed.headers["access-control-allow-methods"] == "POST"
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        refused = web.send("OPTIONS", path, headers={**asked, "Origin": "https://evil.example"})
        assert refused.status == 403
        assert "access-control-allow-origin" not in refused.headers


def test_a_page_can_read_why_it_is_refused(web: WebServer, shop_key: str) -> None:
    answer = web.post("/track", {"event_type": ""}, shop_key, Origin="https://shop.example")
    assert answer.status == 400
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


# Rates


def test_a_key_that_sends_too_much_is_told_when_to_come_back(
    make_web: MakeWeb, client: redis.Redis
) -> None:
    web = make_web(key_events_per_s=3)  # thirty in ten seconds
    batch = {"batch": [{"type": "track", "event": "sale"}] * 10}
    statuses = [web.post("/v1/batch", batch).status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    answer = web.post("/v1/batch", batch)
    assert answer.json["code"] == "too_many"
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert len(sent(client)) == 3
    other = web.dependencies.access_keys.create("write", "other")[1]
    assert web.post("/v1/batch", batch, other).status == 200


def test_a_limit_holds_for_all_servers_together(make_web: MakeWeb, client: redis.Redis) -> None:
    webs = [make_web(key_events_per_s=2), make_web(key_events_per_s=2)]
    key = webs[0].key
    statuses = [web.post("/track", {"event_type": "sale"}, key).status for web in webs * 15]
    assert statuses.count(200) == 20
    assert set(statuses) == {200, 429}
    assert len(sent(client)) == 20


def test_a_batch_larger_than_the_limit_is_not_refused_for_ever(make_web: MakeWeb) -> None:
    web = make_web(key_events_per_s=1)
    batch = {"batch": [{"type": "track", "event": "sale"}] * 100}
    assert web.post("/v1/batch", batch).status == 200
    assert web.post("/v1/batch", batch).status == 429


def test_an_address_that_asks_too_often_is_refused_with_any_key(
    make_web: MakeWeb, client: redis.Redis
) -> None:
    web = make_web(address_requests_per_s=1)
    statuses = [web.post("/track", {"event_type": "sale"}, "no key").status for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert web.post("/track", {"event_type": "sale"}).status == 429
    assert sent(client) == []


# Sizes and time


def test_a_gzip_bomb_is_refused(web: WebServer, client: redis.Redis) -> None:
    bomb = gzip.compress(b'{"batch":[' + b" " * 100_000_000 + b"]}")
    assert len(bomb) < 500 * 1024
    for path in BODIES:
        assert web.post(path, bomb, Content_Encoding="gzip").status == 413, path
    assert sent(client) == []


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"x"],
    ids=["no gzip", "cut short", "with a byte behind"],
)
def test_a_damaged_gzip_body_is_refused(web: WebServer, body: bytes) -> None:
    answer = web.post("/track", body, Content_Encoding="gzip")
    assert (answer.status, answer.json["error"]["code"]) == (400, "damaged_gzip")


def test_another_encoding_is_refused(web: WebServer) -> None:
    assert web.post("/track", b"{}", Content_Encoding="br").status == 415


@pytest.mark.parametrize(("path", "limit"), [("/v1/track", 32), ("/v1/batch", 500), ("/click", 32)])
def test_a_body_larger_than_is_allowed_is_refused(
    web: WebServer, client: redis.Redis, path: str, limit: int
) -> None:
    declared = web.post(path, b"x" * (limit * 1024 + 1))
    assert declared.status == 413
    with Slow(web.port, path, basic(web.key), chunked=True) as connection:
        connection.send_chunks(b"x" * 16_384, limit // 16 + 2)
        assert connection.status() == 413
    assert sent(client) == []


def test_a_slow_body_times_out_and_holds_up_nobody(make_web: MakeWeb, client: redis.Redis) -> None:
    web = make_web(connection_limits=ConnectionLimits(window_s=0.5))
    with Slow(web.port, "/track", basic(web.key), length=100) as slow:
        slow.connection.sendall(b'{"event_type"')
        assert web.post("/track", {"event_type": "sale"}).status == 200
        assert slow.status() == 408
    assert len(sent(client)) == 1


def test_a_client_that_goes_away_half_way_sends_nothing(
    web: WebServer, client: redis.Redis
) -> None:
    with Slow(web.port, "/track", basic(web.key), length=100) as slow:
        slow.connection.sendall(b'{"event_type":"sale"}')
    assert web.post("/track", {"event_type": "other"}).status == 200
    assert len(sent(client)) == 1


def test_bodies_that_do_not_come_take_no_more_memory_than_is_allowed(make_web: MakeWeb) -> None:
    web = make_web(max_waiting_bytes=100_000)
    with (
        Slow(web.port, "/v1/batch", basic(web.key), length=500_000) as one,
        Slow(web.port, "/v1/batch", basic(web.key), length=500_000) as other,
    ):
        one.connection.sendall(b" " * 60_000)
        other.connection.sendall(b" " * 60_000)
        statuses = eventually(lambda: [s for c in (one, other) if (s := c.status(0.05))])
        assert statuses == [503]
    eventually(lambda: web.post("/track", {"event_type": "sale"}).status == 200)


@pytest.mark.parametrize("begun", [b"", b"POST /tr", b"POST /track HTTP/1.1\r\nHost: x\r\n"])
def test_a_client_that_does_not_say_what_it_wants_is_not_waited_for(
    make_web: MakeWeb, begun: bytes
) -> None:
    web = make_web(connection_limits=ConnectionLimits(head_s=0.3))
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as silent:
        silent.sendall(begun)
        assert silent.recv(100) == b""


def test_a_connection_that_is_used_again_must_go_on_in_time_too(
    make_web: MakeWeb,
) -> None:
    web = make_web(connection_limits=ConnectionLimits(head_s=0.3))
    with Slow(web.port, "/track", basic(web.key), length=21) as slow:
        slow.connection.sendall(b'{"event_type":"sale"}')
        assert slow.status() == 200
        slow.connection.sendall(b"POST /track HTTP/1.1\r\n")
        assert slow.connection.recv(100) == b""


@pytest.mark.parametrize("where", ["head", "trailers"])
def test_headers_without_end_are_not_kept(web: WebServer, client: redis.Redis, where: str) -> None:
    line = b"X-Filler: " + b"x" * 8_000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as endless:
        endless.sendall(b"POST /track HTTP/1.1\r\nHost: x\r\n")
        if where == "trailers":
            endless.sendall(b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n")
        with pytest.raises(OSError):  # noqa: PT011 - reset, or a broken pipe
            for _ in range(10_000):
                endless.sendall(line)
    assert web.post("/track", {"event_type": "sale"}).status == 200
    assert len(sent(client)) == 1


# Everything else


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_method_is_refused(web: WebServer, method: str) -> None:
    for path in BODIES:
        answer = web.send(method, path, headers=basic(web.key))
        assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS"), path
    assert web.post("/pixel.gif", {}).status == 405


class Slow:
    """A connection that says what it sends, and sends what the test says."""

    def __init__(
        self,
        port: int,
        path: str,
        headers: dict[str, str],
        length: int = 0,
        chunked: bool = False,
    ) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        size = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", size]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode())

    def send_chunks(self, chunk: bytes, number: int) -> None:
        """Send so many chunks, or as many as are taken."""
        for _ in range(number):
            try:
                self.connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            except OSError:
                return

    def status(self, timeout_s: float = 20) -> int | None:
        """The status of the answer, None when none has come."""
        self.connection.settimeout(timeout_s)
        try:
            line = self.connection.recv(4_096)
        except TimeoutError:
            return None
        return int(line.split()[1]) if line else None

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
