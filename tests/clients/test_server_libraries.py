"""Client libraries for servers, unchanged, pointed here, through an outage: every event counts
once, with its user, its properties and its time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from tests.clients.libraries import Sender
from tests.clients.sent import LONG_AGO, OUTAGE_S, Sent, read_events
from tests.helpers.reply_cutter import ReplyCutter
from tests.helpers.support import Workers, eventually
from tests.helpers.web_process import WebProcess, wait_until_consumed

ORDERS, USERS = 120, 10
COUNT_BY = json.dumps({"order_paid": ["library"]})

_ON_PYTHON, _ON_NODE = "python/like_segment.py", "node/like_segment.mjs"
OF_SEGMENT = {
    "analytics-python": Sender(_ON_PYTHON, ("analytics",), "segment_1.lock"),
    "segment-analytics-python": Sender(_ON_PYTHON, ("segment.analytics",)),
    "rudder-sdk-python": Sender(_ON_PYTHON, ("rudderstack.analytics",), "rudder.lock"),
    "analytics-node": Sender(_ON_NODE, ("@segment/analytics-node",)),
    "rudder-sdk-node": Sender(_ON_NODE, ("@rudderstack/rudder-sdk-node",)),
}
OF_POSTHOG = {
    "posthog": Sender("python/posthog_client.py", ("v0",), "posthog.lock"),
    "posthog-v1": Sender("python/posthog_client.py", ("v1",), "posthog.lock"),
    "posthog-node": Sender("node/posthog.mjs"),
}
LIBRARIES = OF_SEGMENT | OF_POSTHOG
# With a batch that they send again, these say when they sent it first: the time that it waited is
# added to that of its events.
LATE_S = {"rudder-sdk-node": 40, "posthog-node": 40}


def expect_of(library: str) -> Sent:
    others = dict.fromkeys(("page_view", "identify", "group", "alias"), 1)
    if library in OF_SEGMENT:
        others["screen_view"] = 1
    return Sent(library, ORDERS, USERS, others, LATE_S.get(library, 5))


@pytest.fixture
def running() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Processes by library, which end with the test."""
    started: dict[str, subprocess.Popen[str]] = {}
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.timeout(240)  # the libraries are installed when they are first used
def test_every_event_of_every_library_counts_once_through_an_outage(
    workers: Workers,
    services: Services,
    running: dict[str, subprocess.Popen[str]],
    subtests: pytest.Subtests,
) -> None:
    installed: list[Sent] = []
    for library, sender in LIBRARIES.items():
        with subtests.test("is installed", library=library):
            sender.install()
            installed.append(expect_of(library))
    workers.start("events", COUNT_BY=COUNT_BY)
    web = WebProcess(workers).start()
    key = AccessKeyStore(services.redis, services.keys).create("write", "server")[1]
    arguments = str(ORDERS), LONG_AGO.isoformat()
    ways = [ReplyCutter(web.port) for _ in installed]
    for way, sent in zip(ways, installed, strict=True):
        way.lose_the_answer_to(b"POST ")
        origin = f"http://127.0.0.1:{way.port}"
        start = LIBRARIES[sent.library].start
        running[sent.library] = start(origin, key, sent.library, *arguments)

    eventually(lambda: all(way.cut for way in ways))
    eventually(lambda: all(sent.count(services) for sent in installed))
    web.kill()
    time.sleep(OUTAGE_S)
    web.start()

    for library, process in running.items():
        with subtests.test("ends without an error", library=library):
            said, _ = process.communicate(timeout=100)
            assert process.returncode == 0, said
    for way in ways:
        way.close()
    wait_until_consumed(services)
    found = read_events(services)
    for sent in installed:
        with subtests.test("is counted", library=sent.library):
            sent.check_counts(services)
        with subtests.test("is logged", library=sent.library):
            sent.check_events(found[sent.library])
    assert services.status()["books"]["duplicate"] >= len(installed)
