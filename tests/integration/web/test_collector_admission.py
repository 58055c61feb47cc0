"""What is refused before a body is read, and what bodies may take: an attacker spends its own
share, and honest clients are served beside it."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest
import redis

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from tests.helpers.support import Workers, arguments, sent
from tests.helpers.web_process import WebProcess
from tests.helpers.web_server import BODIES, WebServer, basic

MakeWeb = Callable[..., WebServer]
WITHOUT_KEY_IN_BODY = ("/api/event", "/track", "/click")
SALE = {"type": "track", "event": "sale"}


def open_request(
    port: int, path: str, headers: dict[str, str], length: int, source: str = "127.0.0.1"
) -> socket.socket:
    """A connection on which the head of a POST was sent."""
    connection = socket.create_connection(("127.0.0.1", port), 20, (source, 0))
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def read_answer(connection: socket.socket, timeout_s: float = 5) -> bytes:
    """What comes until the connection is closed or silent, which may be nothing."""
    connection.settimeout(timeout_s)
    answer = b""
    try:
        while part := connection.recv(65_536):
            answer += part
            connection.settimeout(0.2)
    except TimeoutError:
        pass
    return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


# Before the body


@pytest.mark.parametrize("path", list(BODIES))
def test_a_wrong_key_is_refused_before_the_body_comes(web: WebServer, path: str) -> None:
    with open_request(web.port, path, basic("wk_1_wrong"), 400_000) as connection:
        assert status(read_answer(connection)) == 401


@pytest.mark.parametrize("path", WITHOUT_KEY_IN_BODY)
def test_without_a_key_nothing_is_read_where_the_body_has_none(web: WebServer, path: str) -> None:
    with open_request(web.port, path, {}, 20_000) as connection:
        assert status(read_answer(connection)) == 401


@pytest.mark.parametrize("way", ["basic", "parameter"])
def test_a_page_of_another_origin_is_refused_before_the_body_comes(
    web: WebServer, way: str
) -> None:
    key = web.dependencies.access_keys.create("write", "shop", ["https://shop.example"])[1]
    path, headers = ("/v1/batch", basic(key)) if way == "basic" else (f"/v1/batch?key={key}", {})
    headers["Origin"] = "https://evil.example"
    with open_request(web.port, path, headers, 400_000) as connection:
        assert status(read_answer(connection)) == 403


def test_a_key_beyond_its_rate_is_refused_before_the_body_comes(make_web: MakeWeb) -> None:
    web = make_web(key_events_per_s=1)
    batch = {"batch": [SALE] * 10}
    assert [web.post("/v1/batch", batch).status for _ in range(2)] == [200, 429]
    with open_request(web.port, "/v1/batch", basic(web.key), 400_000) as connection:
        answer = read_answer(connection)
    assert status(answer) == 429
    assert b"retry-after: " in answer


def test_an_address_beyond_its_rate_is_refused_before_the_body_comes(make_web: MakeWeb) -> None:
    web = make_web(address_requests_per_s=1)
    for _ in range(10):
        web.post("/track", {"event_type": "sale"})
    with open_request(web.port, "/track", basic(web.key), 20_000) as connection:
        assert status(read_answer(connection)) == 429


def test_a_client_that_is_asked_to_wait_for_leave_to_send_is_refused_without_it(
    web: WebServer,
) -> None:
    headers = {**basic("wk_1_wrong"), "Expect": "100-continue"}
    with open_request(web.port, "/v1/batch", headers, 400_000) as connection:
        assert read_answer(connection).startswith(b"HTTP/1.1 401")
    headers = {**basic(web.key), "Expect": "100-continue"}
    with open_request(web.port, "/v1/batch", headers, 400_000) as connection:
        assert read_answer(connection).startswith(b"HTTP/1.1 100")


@pytest.mark.parametrize("size", [1_000, 50_000, 400_000, 512_000])
def test_a_client_that_reads_only_after_it_has_sent_sees_why_it_is_refused(
    web: WebServer, size: int
) -> None:
    for _ in range(5):
        with open_request(web.port, "/v1/batch", basic("wk_1_wrong"), size) as connection:
            connection.sendall(b" " * size)
            assert status(read_answer(connection)) == 401


def test_a_connection_is_used_on_after_a_small_body_was_refused(
    web: WebServer, client: redis.Redis
) -> None:
    with open_request(web.port, "/track", basic("wk_1_wrong"), 2) as connection:
        connection.sendall(b"{}")
        assert status(read_answer(connection)) == 401
        body = b'{"event_type":"sale"}'
        head = f"POST /track?key={web.key} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        assert status(read_answer(connection)) == 200
    assert len(sent(client)) == 1


def test_a_query_is_no_larger_than_an_event_may_be(web: WebServer, client: redis.Redis) -> None:
    long = "&".join(f"p{n}={'x' * 1_000}" for n in range(40))
    assert web.send("GET", f"/pixel.gif?key={web.key}&{long}").status == 413
    assert sent(client) == []


# The key in the body


def place_key(key: str, place: str) -> bytes:
    calls, found = json.dumps([SALE] * 3), json.dumps(key)
    match place:
        case "first":
            return f'{{"writeKey":{found},"batch":{calls}}}'.encode()
        case "last":
            return (
                f'{{"batch":{calls},"sentAt":"2025-03-14T15:09:26Z","writeKey":{found}}}'.encode()
            )
        case "between":
            return f'{{"sentAt":null,"writeKey":{found},"batch":{calls}}}'.encode()
        case "twice":
            return f'{{"writeKey":"wk_1_x","batch":{calls},"writeKey":{found}}}'.encode()
        case "escaped":
            return f'{{"batch":{calls},"write\\u004bey":{found}}}'.encode()
        case _:
            return f'{{"batch":{calls}{" " * 400_000},"writeKey":{found}}}'.encode()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["first", "last", "between", "twice", "escaped", "far"])
def test_the_key_is_found_wherever_it_stands_in_a_body(
    web: WebServer, client: redis.Redis, place: str, packed: bool
) -> None:
    body = place_key(web.key, place)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    answer = web.send("POST", "/v1/batch", gzip.compress(body) if packed else body, headers)
    assert (answer.status, len(sent(client))) == (200, 1)


def test_a_key_within_an_event_is_none(web: WebServer, client: redis.Redis) -> None:
    for batch in ([{**SALE, "writeKey": web.key}], [{**SALE, "properties": {"writeKey": web.key}}]):
        assert web.send("POST", "/v1/batch", json.dumps({"batch": batch}).encode()).status == 401
    assert sent(client) == []


@pytest.mark.parametrize(("path", "size"), [("/v1/batch", 500_000), ("/v1/t", 30_000)])
@pytest.mark.parametrize("key", ["", ',"writeKey":"wk_1_wrong"'])
def test_packed_bodies_without_a_valid_key_use_up_the_budget_of_their_address(
    web: WebServer, path: str, size: int, key: str
) -> None:
    bomb = gzip.compress(b'{"batch":[' + b" " * size + f"]{key}}}".encode())
    statuses = []
    while not statuses or (statuses[-1] == 401 and len(statuses) < 1_000):
        answer = web.send("POST", path, bomb, {"Content-Encoding": "gzip"})
        statuses.append(answer.status)
    assert statuses[-1] == 429
    assert len(statuses) > 2
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    # The address may go on with what proves its key at once.
    assert web.post(path, BODIES[path]).status == 200


def test_what_comes_with_a_valid_key_in_its_body_uses_up_no_budget(web: WebServer) -> None:
    body = place_key(web.key, "far")
    assert {web.send("POST", "/v1/batch", body).status for _ in range(20)} == {200}


def test_a_gzip_body_has_few_members(web: WebServer, client: redis.Redis) -> None:
    members = gzip.compress(b"") * 20_000
    answer = web.post("/v1/batch", members, Content_Encoding="gzip")
    assert (answer.status, answer.json["code"]) == (400, "damaged_gzip")
    body = json.dumps({"batch": [SALE]}).encode()
    in_three = b"".join(map(gzip.compress, (body[:5], body[5:9], body[9:])))
    assert web.post("/v1/batch", in_three, Content_Encoding="gzip").status == 200


# With a key


@pytest.mark.parametrize("packed", [False, True])
def test_bytes_cost_of_a_keys_rate_as_events_do(make_web: MakeWeb, packed: bool) -> None:
    web = make_web(key_events_per_s=25)  # 250 in ten seconds, at 2 KiB each
    body = b'{"batch":[' + b" " * 400_000 + json.dumps(SALE).encode() + b"]}"
    headers = {"Content_Encoding": "gzip"} if packed else {}
    sent_body = gzip.compress(body) if packed else body
    assert [web.post("/v1/batch", sent_body, **headers).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("good", [[], [SALE]])
def test_rejected_events_cost_of_a_keys_rate_as_others_do(
    make_web: MakeWeb, good: list[dict[str, Any]]
) -> None:
    web = make_web(key_events_per_s=100)
    bad = {"type": "track", "properties": {"filler": "x" * 300}}
    batch = {"batch": good + [bad] * 999}
    statuses = [web.post("/v1/batch", batch).status for _ in range(8)]
    assert statuses[0] == (200 if good else 400)
    assert statuses[-1] == 429


def test_of_many_rejected_events_the_first_are_listed_and_all_counted(web: WebServer) -> None:
    answer = web.post("/v1/batch", {"batch": [SALE] + [{}] * 999})
    assert answer.json["rejected_count"] == 999
    assert [one["index"] for one in answer.json["rejected"]] == list(range(1, 101))
    few = web.post("/v1/batch", {"batch": [SALE] + [{}] * 100})
    assert (len(few.json["rejected"]), "rejected_count" in few.json) == (100, False)


def test_numbers_that_are_slow_to_read_are_events_like_others(
    web: WebServer, client: redis.Redis
) -> None:
    numbers = json.loads(f"[{','.join(['1e308'] * 4_000)}]")
    assert web.post("/v1/track", {"event": "sale", "properties": {"n": numbers}}).status == 200
    (event,) = arguments(sent(client)[0])[0][0]
    assert event["properties"]["n"] == numbers


# Memory


@contextmanager
def stalled(
    port: int, count: int, path: str, sources: int = 1, size: int = 400_000
) -> Iterator[None]:
    """So many requests whose bodies stop just before their end."""
    with ExitStack() as stack:
        for number in range(count):
            source = f"127.0.0.{10 + number % sources}"
            connection = stack.enter_context(open_request(port, path, {}, 500_000, source))
            connection.setblocking(False)
            for _ in range(size // 50_000):
                try:
                    connection.sendall(b" " * 50_000)
                except OSError:  # the server takes no more, or has refused it
                    break
        yield


@pytest.fixture
def web_process(workers: Workers) -> WebProcess:
    return WebProcess(workers).start()


@pytest.mark.parametrize("sources", [1, 60])
@pytest.mark.parametrize("with_key", [True, False])
def test_stalled_bodies_leave_room_for_honest_events_and_take_bounded_memory(
    web_process: WebProcess, services: Services, with_key: bool, sources: int
) -> None:
    store = AccessKeyStore(services.redis, services.keys)
    server_key, page_key = store.create("write", "server")[1], store.create("write", "p", ["*"])[1]
    honest = WebServer(None, web_process.port, server_key)  # type: ignore[arg-type]
    assert honest.post("/track", {"event_type": "sale"}).status == 200
    process = psutil.Process(web_process.pid)
    before = process.memory_info().rss
    path = f"/v1/batch?key={page_key}" if with_key else "/v1/batch"
    with stalled(web_process.port, 200, path, sources):
        events = [SALE | {"properties": {"text": "x" * 1_000}}] * 3
        for key in (server_key, page_key) * 20:
            assert honest.post("/v1/batch", {"batch": events}, key).status == 200
        # A large batch of a server has room of its own.
        batch = {"batch": [SALE | {"properties": {"text": "x" * 10_000}}] * 40}
        assert honest.post("/v1/batch", batch).status == 200
        assert process.memory_info().rss - before < 120 * 2**20
    assert "Traceback" not in web_process.said()


# Redis


def test_addresses_that_come_once_cost_redis_nothing(
    make_web: MakeWeb, client: redis.Redis
) -> None:
    web = make_web(address_requests_per_s=100, trusted_proxies=["127.0.0.1"])
    assert web.post("/track", {"event_type": "sale"}, "no key").status == 401
    before = scripts_run(client)
    for number in range(300):
        headers = {"X_Forwarded_For": f"2001:db8:{number:x}::1"}
        assert web.post("/track", {"event_type": "sale"}, "no key", **headers).status == 401
    assert scripts_run(client) - before < 10


def scripts_run(client: redis.Redis) -> int:
    found = client.info("commandstats")
    return sum(found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


def test_a_network_of_networks_has_a_limit_too(make_web: MakeWeb) -> None:
    web = make_web(address_requests_per_s=1, trusted_proxies=["127.0.0.1"])
    statuses = [
        web.post("/track", {}, "no key", X_Forwarded_For=f"2001:db8:1:{n:x}::1").status
        for n in range(60)
    ]
    assert statuses.count(401) == 40
    assert web.post("/track", {}, "no key", X_Forwarded_For="2001:db8:2::1").status == 401
