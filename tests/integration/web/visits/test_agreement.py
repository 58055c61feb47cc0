"""Sessions of several web processes, and across restarts of a web server and of Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
import redis

from config.options import pipeline_options
from config.settings import Settings
from pipeline.access.key_store import AccessKeyStore
from pipeline.embedded import PrivateServers
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.services import Services, connect
from tests.helpers.support import Workers, arguments, eventually, sent
from tests.helpers.web_process import WebProcess
from tests.helpers.web_server import WebServer, basic, serving

BROWSER = {"Origin": "https://shop.example", "User-Agent": "Mozilla/5.0 (X11) Firefox/140.0"}
SETTINGS = {"SESSIONS": "1", "PAGE_PROPERTIES": '["entry_page"]'}


def view(path: str) -> dict[str, object]:
    return {"batch": [{"type": "page", "properties": {"path": path}}]}


def sessions(client: redis.Redis) -> list[tuple[str | None, str | None]]:
    """Session and entry page of each event that was sent."""
    events = [event for message in sent(client) for event in arguments(message)[0][0]]
    found = [event["properties"] for event in events]
    return [(one.get("session_id"), one.get("entry_page")) for one in found]


def test_two_web_processes_agree_and_a_killed_one_finds_the_session_again(
    workers: Workers, services: Services, client: redis.Redis
) -> None:
    key = AccessKeyStore(services.redis, services.keys).create("write", "", ["*"])[1]
    first, second = (WebProcess(workers).start(**SETTINGS) for _ in range(2))

    def visit(web: WebProcess, path: str) -> None:
        connection = HTTPConnection("127.0.0.1", web.port, timeout=10)
        connection.request("POST", "/v1/batch", json.dumps(view(path)), BROWSER | basic(key))
        assert connection.getresponse().status == 200
        connection.close()

    visit(first, "/a")
    visit(second, "/b")
    first.kill()
    first.start(**SETTINGS)
    visit(first, "/c")

    found = sessions(client)
    assert len({session for session, _ in found}) == 1
    assert [entry for _, entry in found] == ["/a", None, None]


@pytest.fixture
def web(own_servers: PrivateServers) -> Iterator[WebServer]:
    """A server whose Redis the test may stop."""
    url, postgres_url = own_servers.redis_url, own_servers.postgres_url
    assert url is not None
    assert postgres_url is not None
    configure(ProducerSettings(redis_url=url))
    services = connect(pipeline_options(Settings()), url, postgres_url)
    with serving(services, url, sessions=True, page_properties=["entry_page"]) as web:
        yield web
    services.close()


def test_a_session_goes_on_when_redis_was_killed_meanwhile(
    web: WebServer, own_servers: PrivateServers
) -> None:
    headers = {name.replace("-", "_"): value for name, value in BROWSER.items()}

    def visit(path: str) -> int:
        return web.post("/v1/batch", view(path), **headers).status

    assert visit("/a") == 200
    own_servers.redis.kill()
    assert visit("/b") == 503
    own_servers.redis.start()
    eventually(lambda: visit("/c") == 200, 10)

    with redis.Redis.from_url(str(own_servers.redis_url)) as client:

        def goes_on() -> bool:
            assert visit("/d") == 200
            return sessions(client)[-1] == (sessions(client)[0][0], None)

        eventually(goes_on, 10)  # for a moment Redis is not asked
        assert [entry for _, entry in sessions(client)].count("/a") == 1
