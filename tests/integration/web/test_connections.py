"""Clients that send slowly, read nothing or send no HTTP, against `analytics web` as a process."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from tests.helpers.support import Worker, Workers, eventually, start_group
from tests.helpers.web_process import WebProcess
from tests.helpers.web_server import basic

OPEN_FILES = 1_024
ATTACKER, HONEST = "127.0.0.2", "127.0.0.3"
SLOW_REQUESTS = [
    b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    b"POST /no/such HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    b"GET /track HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    b"OPTIONS /track HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    b"GET /analytics.js HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    b"GET /api/stats/count HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n\r\n",
    b"GET /livez HT",
    b"",
]
NO_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 300,  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    bytes(range(256)),
    b"GET / HTTP/1.1\r\nHost: x\r\nA\x00B: c\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /track HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
]


@pytest.fixture
def key(services: Services) -> str:
    return AccessKeyStore(services.redis, services.keys).create("write", "tests")[1]


def connect(web: WebProcess, address: str = HONEST) -> socket.socket:
    return socket.create_connection(("127.0.0.1", web.port), 20, (address, 0))


def send(web: WebProcess, key: str, address: str = HONEST, target: str = "/track") -> int:
    """The status of an honest request."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in basic(key).items())
    body = json.dumps({"event_type": "sale"})
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n"
    with connect(web, address) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        return int(client.recv(1_000).split()[1])


def highest_memory_mib(web: WebProcess) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{web.pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1_024


@contextmanager
def attackers(web: WebProcess, requests: list[bytes]) -> Iterator[list[socket.socket]]:
    """Connections that each have sent one of the requests, as far as the server takes it."""
    with ExitStack() as opened:
        clients = []
        for request in requests:
            client = opened.enter_context(connect(web, ATTACKER))
            client.setblocking(False)
            with suppress(OSError):
                client.send(request)
            clients.append(client)
        yield clients


def is_closed(client: socket.socket) -> bool:
    """Whether the server has ended the connection; takes what it has sent."""
    try:
        while client.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def test_slow_clients_keep_out_no_honest_one(workers: Workers, key: str) -> None:
    web = WebProcess(workers, open_files=OPEN_FILES).start()
    assert f"{OPEN_FILES} files may be open at once, so at most 768 connections" in web.said()
    with attackers(web, [SLOW_REQUESTS[n % len(SLOW_REQUESTS)] for n in range(1_200)]) as slow:
        assert [send(web, key) for _ in range(50)] == [200] * 50
        assert [send(web, key, ATTACKER) for _ in range(50)] == [200] * 50
        eventually(lambda: all(is_closed(client) for client in slow), 60, "all slow ones end")
    assert highest_memory_mib(web) < 300
    assert "Traceback" not in web.said()


def test_clients_that_read_nothing_hold_little_memory(workers: Workers, key: str) -> None:
    web = WebProcess(workers).start()
    pipelined = b"GET /analytics.js HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000
    with attackers(web, [pipelined] * 200) as readers:
        for client in readers:
            with suppress(OSError):
                client.send(pipelined)
        assert [send(web, key) for _ in range(50)] == [200] * 50
    assert highest_memory_mib(web) < 300


def test_bodies_that_come_all_at_once_hold_little_memory(workers: Workers, key: str) -> None:
    web = WebProcess(workers).start()
    assert send(web, key) == 200
    before = highest_memory_mib(web)
    assert web.process is not None
    head = f"POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    request = f"{head}Content-Length: 500000\r\n\r\n".encode() + b" " * 400_000
    web.process.process.send_signal(signal.SIGSTOP)
    try:
        with attackers(web, [request] * 500):
            web.process.process.send_signal(signal.SIGCONT)
            assert [send(web, key) for _ in range(20)] == [200] * 20
    finally:
        web.process.process.send_signal(signal.SIGCONT)
    assert highest_memory_mib(web) - before < 60


def test_what_is_no_http_is_refused_and_not_logged(workers: Workers, key: str) -> None:
    web = WebProcess(workers).start()
    before = web.said()
    for sent in NO_HTTP * 5:
        with connect(web) as client:
            client.sendall(sent)
            answer = client.recv(4_000)
            assert answer.startswith(b"HTTP/1.1 400")
            assert b'"code":"malformed"' in answer
    with connect(web) as client:
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + upgrade)
        assert client.recv(1_000).startswith(b"HTTP/1.1 200")
    assert send(web, key) == 200
    assert web.said() == before


def test_requests_cut_off_by_the_end_of_the_server_leave_no_traceback(
    workers: Workers, key: str
) -> None:
    web = WebProcess(workers).start()
    head = f"POST /track HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    with attackers(web, [f"{head}Content-Length: 100\r\n\r\n".encode()] * 5):
        assert send(web, key) == 200
        assert web.process is not None
        assert web.process.stop() == 0
    assert "Traceback" not in web.said()


def test_a_server_on_all_addresses_takes_both_protocols(workers: Workers, key: str) -> None:
    web = WebProcess(workers, host="::").start()
    assert send(web, key) == 200
    with socket.create_connection(("::1", web.port), 20) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1_000).startswith(b"HTTP/1.1 200")


def test_an_ipv4_client_of_a_dual_stack_server_may_be_a_trusted_proxy(
    workers: Workers, key: str
) -> None:
    settings = {"TRUSTED_PROXIES": '["127.0.0.0/8"]', "ADDRESS_REQUESTS_PER_S": "1"}
    web = WebProcess(workers, host="::").start(**settings)
    statuses = []
    for number in range(12):
        with connect(web) as client:
            headers = f"Authorization: Bearer {key}\r\nX-Forwarded-For: 192.0.2.{number}\r\n"
            client.sendall(f"GET /pixel.gif?key={key} HTTP/1.1\r\n{headers}\r\n".encode())
            statuses.append(int(client.recv(1_000).split()[1]))
    assert statuses == [200] * 12


def start_factory(workers: Workers, *options: str, **settings: str) -> WebProcess:
    """`uvicorn --factory` with its own defaults, which log requests and believe loopback."""
    web = WebProcess(workers)
    with web.log.open("wb") as output:
        command = [sys.executable, "-m", "uvicorn", "--factory", "pipeline.web.main:app"]
        environment = workers.environment | {f"ANALYTICS_{k}": v for k, v in settings.items()}
        process = start_group([*command, "--port", str(web.port), *options], output, environment)
    web.process = Worker("web", process, web.log)
    workers.started.append(web.process)
    eventually(lambda: "Uvicorn running" in web.said() or process.poll() is not None, 30)
    return web


def test_the_factory_under_uvicorn_is_as_safe(workers: Workers, key: str) -> None:
    web = start_factory(workers, ADDRESS_REQUESTS_PER_S="1")
    statuses = []
    for number in range(12):
        with connect(web, "127.0.0.1") as client:
            forwarded = f"X-Forwarded-For: 192.0.2.{number}\r\n"
            client.sendall(f"GET /pixel.gif?key={key} HTTP/1.1\r\n{forwarded}\r\n".encode())
            statuses.append(int(client.recv(1_000).split()[1]))
    assert statuses == [200] * 10 + [429] * 2
    with connect(web) as client:
        client.sendall(b"no HTTP\r\n\r\n")
        assert b'"code":"malformed"' in client.recv(4_000)
    for hidden in (key, "192.0.2.", "127.0.0.1:", "pixel.gif"):
        assert hidden not in web.said().replace(f"127.0.0.1:{web.port}", "")


@pytest.mark.parametrize("options", [["--lifespan", "off"], ["--log-level", "trace"]])
def test_the_factory_serves_nothing_where_it_cannot_be_safe(
    workers: Workers, key: str, options: list[str]
) -> None:
    web = start_factory(workers, *options)
    assert web.process is not None
    if web.process.process.poll() is None:
        assert send(web, key) == 503
    else:
        assert "Run `analytics web` instead" in web.said()


def test_a_stream_with_a_request_behind_it_ends_with_its_connection(
    workers: Workers, services: Services, key: str
) -> None:
    token = AccessKeyStore(services.redis, services.keys).create("read", "tests")[1]
    web = WebProcess(workers).start()
    stream = f"GET /api/stats/live?token={token} HTTP/1.1\r\nHost: x\r\n\r\n"
    behind = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(web) as client:
        client.sendall((stream + behind).encode())
        assert client.recv(1_000).startswith(b"HTTP/1.1 200")
    assert send(web, key) == 200
    assert web.process is not None
    assert web.process.stop() == 0
    assert "Traceback" not in web.said()
    assert "Cancel" not in web.said()


def test_a_signal_ends_a_server_under_attack(workers: Workers, key: str) -> None:
    web = WebProcess(workers).start()
    with attackers(web, [b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"] * 50):
        assert web.process is not None
        web.process.process.send_signal(signal.SIGTERM)
        assert web.process.wait(15) == 0
