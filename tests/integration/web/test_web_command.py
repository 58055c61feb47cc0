"""`analytics web` as a process: what it believes, what it logs, and how it says that it cannot."""

from __future__ import annotations

import json
import socket
import sys
from http.client import HTTPConnection

import pytest

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from tests.helpers.processes import run_python
from tests.helpers.support import Worker, Workers, eventually, start_group
from tests.helpers.web_process import WebProcess
from tests.helpers.web_server import basic


@pytest.fixture
def key(services: Services) -> str:
    return AccessKeyStore(services.redis, services.keys).create("write", "tests")[1]


def send(web: WebProcess, key: str, forwarded_for: str) -> int:
    connection = HTTPConnection("127.0.0.1", web.port, timeout=10)
    try:
        headers = {**basic(key), "X-Forwarded-For": forwarded_for}
        connection.request("POST", "/track", json.dumps({"event_type": "sale"}), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_an_address_that_anybody_can_forward_is_not_believed(workers: Workers, key: str) -> None:
    web = WebProcess(workers).start(ADDRESS_REQUESTS_PER_S="1")
    statuses = [send(web, key, f"192.0.2.{number}") for number in range(12)]
    assert statuses == [200] * 10 + [429] * 2


def test_the_address_that_a_trusted_proxy_forwards_is_limited(workers: Workers, key: str) -> None:
    web = WebProcess(workers).start(
        ADDRESS_REQUESTS_PER_S="1", TRUSTED_PROXIES='["10.0.0.0/8", "127.0.0.1"]'
    )
    statuses = [send(web, key, "192.0.2.1") for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2
    assert send(web, key, "192.0.2.2") == 200
    # Of a chain the last address that is no proxy of ours counts.
    for one in ("192.0.2.99, 192.0.2.1, 10.1.2.3", "192.0.2.99,192.0.2.1:4711 , 10.1.2.3:80"):
        assert send(web, key, one) == 429
    assert send(web, key, "192.0.2.1, [2001:db8::1]:443, 127.0.0.1") == 200


def test_a_network_of_ipv6_is_one_address(workers: Workers, key: str) -> None:
    web = WebProcess(workers).start(ADDRESS_REQUESTS_PER_S="1", TRUSTED_PROXIES='["127.0.0.1"]')
    statuses = [send(web, key, f"2001:db8::{number}") for number in range(11)]
    assert statuses == [200] * 10 + [429]
    assert send(web, key, "2001:db8:0:1::1") == 200


def test_no_address_is_logged(workers: Workers, key: str) -> None:
    web = WebProcess(workers).start(TRUSTED_PROXIES='["127.0.0.1"]', LOG_LEVEL="DEBUG")
    assert send(web, key, "192.0.2.77") == 200
    with socket.create_connection(("127.0.0.1", web.port)) as connection:
        connection.sendall(b"no HTTP at all\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert web.process is not None
    assert web.process.stop() == 0
    assert "192.0.2.77" not in web.said()
    assert key not in web.said()


def test_uvicorn_can_run_it(workers: Workers, key: str) -> None:
    web = WebProcess(workers)
    with web.log.open("wb") as output:
        command = [sys.executable, "-m", "uvicorn", "--factory", "pipeline.web.main:app"]
        command += ["--port", str(web.port), "--no-access-log"]
        process = start_group(command, output, workers.environment)
    workers.started.append(Worker("web", process, web.log))
    eventually(lambda: "Uvicorn running" in web.said() or process.poll() is not None, 30)
    assert send(web, key, "192.0.2.1") == 200


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["--port", "{taken}"], {}, "address already in use"),
        ([], {"WEB_PORT": "0"}, "ANALYTICS_WEB_PORT=0 turns the web server off"),
        ([], {"TRUSTED_PROXIES": "all"}, "ANALYTICS_TRUSTED_PROXIES=all: must be"),
    ],
)
def test_what_cannot_be_served_is_said(
    workers: Workers, arguments: list[str], settings: dict[str, str], said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        environment = workers.environment | {f"ANALYTICS_{k}": v for k, v in settings.items()}
        given = [argument.format(taken=taken) for argument in arguments]
        ran = run_python("-m", "pipeline.cli", "web", *given, environment=environment)
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
