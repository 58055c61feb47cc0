"""Segment's clients for Python and Node, unchanged, pointed here: every event counts once."""

from __future__ import annotations

import json
import subprocess

import pytest

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from tests.clients.libraries import Send, node_client, python_client
from tests.helpers.reply_cutter import ReplyCutter
from tests.helpers.support import Workers, eventually
from tests.helpers.web_process import WebProcess, lately, wait_until_consumed

EVENTS = 1_500
KILLS = 3
LOST_REPLIES = 5
OF_EACH_OTHER_KIND = {"page_view": 1, "screen_view": 1, "identify": 1, "group": 1, "alias": 1}
COUNT_BY = json.dumps({"order_paid": ["plan"]})

pytestmark = pytest.mark.parametrize("client", [python_client, node_client])


@pytest.fixture
def web(workers: Workers) -> WebProcess:
    workers.start("events", COUNT_BY=COUNT_BY)
    return WebProcess(workers).start()


@pytest.fixture
def key(services: Services) -> str:
    return AccessKeyStore(services.redis, services.keys).create("write", "server")[1]


def counts(services: Services) -> dict[str, int]:
    return {
        name: services.stats.count(name, *lately()) for name in ("order_paid", *OF_EACH_OTHER_KIND)
    }


def check_once_each(sender: subprocess.Popen[str], services: Services) -> None:
    """The client ends without an error, and what it sent is counted exactly once."""
    said, _ = sender.communicate(timeout=100)
    assert sender.returncode == 0, said
    wait_until_consumed(services)
    assert counts(services) == {"order_paid": EVENTS, **OF_EACH_OTHER_KIND}
    for n in range(10):
        assert services.stats.user_count(f"u{n}", "order_paid", *lately()) == EVENTS // 10
    assert services.stats.property_count("order_paid", "plan", "pro", *lately()) == EVENTS


def accepted(services: Services) -> int:
    return int(services.status()["books"]["consumed"])


def test_every_event_counts_once(
    client: Send, web: WebProcess, key: str, services: Services
) -> None:
    check_once_each(client(web.origin, key, str(EVENTS)), services)
    assert services.status()["books"]["duplicate"] == 0


def test_every_event_counts_once_when_the_web_server_is_killed_under_the_client(
    client: Send, web: WebProcess, key: str, services: Services
) -> None:
    sender = client(web.origin, key, str(EVENTS))
    for _ in range(KILLS):
        before = accepted(services)
        eventually(lambda: accepted(services) > before + EVENTS // 30)  # noqa: B023
        assert sender.poll() is None, "the client was done too early for this test"
        web.kill()
        web.start()

    check_once_each(sender, services)


def test_every_event_counts_once_when_replies_are_lost(
    client: Send, web: WebProcess, key: str, services: Services
) -> None:
    way = ReplyCutter(web.port)
    sender = client(f"http://127.0.0.1:{way.port}", key, str(EVENTS))
    for number in range(LOST_REPLIES):
        way.lose_the_answer_to(b"POST /v1/batch")
        eventually(lambda: way.cut > number)  # noqa: B023
        before = accepted(services)
        eventually(lambda: accepted(services) > before)  # noqa: B023

    check_once_each(sender, services)
    assert services.status()["books"]["duplicate"] > 0
    way.close()
