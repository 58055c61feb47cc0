"""Each process has a user of Redis who may do what docs/guides/deploying/redis-rights.md lists,
and no more: neither `INFO` nor `CONFIG`."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis
from sqlalchemy import make_url

from pipeline import Tracker
from pipeline.access.key_store import AccessKeyStore
from pipeline.metrics.reading import StateReader
from pipeline.producer.app import configure
from pipeline.producer.celery_tasks import track_event
from pipeline.services import Services, connect
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import ROOT, Workers, eventually, stored_total
from tests.helpers.web_process import WebProcess

PAGE = ROOT / "docs" / "guides" / "deploying" / "redis-rights.md"
PASSWORD = secrets.token_hex(8)
USERS = dict(re.findall(r"^user (\w+) (.+)$", PAGE.read_text(), re.MULTILINE))
NOT_ALLOWED = {"info", "config", "config|get"}
"""What is tried all the same, to say what it shows."""

UrlOf = Callable[[str], str]


@pytest.fixture
def url_of(client: redis.Redis, redis_url: str) -> Iterator[UrlOf]:
    """The URL of each user on the page."""
    for name, rights in USERS.items():
        client.execute_command(
            "ACL", "SETUSER", name, "reset", *rights.replace("PASSWORD", PASSWORD).split()
        )
    client.acl_log_reset()

    def make(name: str) -> str:
        url = make_url(redis_url).set(username=name, password=PASSWORD)
        return url.render_as_string(hide_password=False)

    yield make
    print(f"refused: {list_refused(client)}")
    client.acl_deluser(*USERS)


def list_refused(client: redis.Redis) -> set[tuple[str, str]]:
    """User and command, key or channel of what was refused, but for what may be."""
    found = {(one["username"], one["object"]) for one in client.acl_log()}
    return {(user, refused) for user, refused in found if refused not in NOT_ALLOWED}


def test_every_process_works_with_the_rights_on_the_page(
    client: redis.Redis, services: Services, url_of: UrlOf, workers: Workers
) -> None:
    events = workers.start("events", REDIS_URL=url_of("worker"))
    workers.start("flush", REDIS_URL=url_of("flush"))
    beat = ("beat", "--pidfile=")
    workers.celery("beat", *beat, REDIS_URL=url_of("beat"), FLUSH_INTERVAL_S="0.5")
    web = WebProcess(workers).start(REDIS_URL=url_of("web"))
    flower = workers.celery("flower", "flower", f"--port={free_port()}", REDIS_URL=url_of("web"))
    _, key = AccessKeyStore(client, services.keys).create("write", "shop")

    configure(redis_url=url_of("sender"), publish_timeout_s=5)
    track_event.delay("page_view", "u1")
    track_event.apply_async(("page_view", "u1"), expires=60)
    with Tracker() as tracker:
        tracker.track("page_view", "u1")
    answer = httpx.post(f"{web.origin}/track", json={"event_type": "page_view"}, auth=(key, ""))
    assert answer.status_code == 200

    eventually(lambda: stored_total(services) == 4)
    ping = ("inspect", "ping", "-d", f"{events.name}@tests", "-t", "20")
    asked = workers.celery("ping", *ping, REDIS_URL=url_of("web"))
    asked.wait(30)
    assert "pong" in asked.said()
    eventually(lambda: "Connected to redis://" in flower.said())
    watching = connect(
        services.options, url_of("web"), str(workers.environment["ANALYTICS_POSTGRES_URL"])
    )
    state = StateReader(watching).read()
    watching.close()
    assert state["up"]
    assert state["workers"] == {"events": 1, "flush": 1}
    assert state["beat_ticked_s"] > 0
    commands = ("metrics --once", "watch --once", "flush", "status")
    ran = [start_command(workers, one, url_of("web")) for one in commands]
    for command, process in zip(commands, ran, strict=True):
        said, _ = process.communicate(timeout=60)
        assert process.returncode in (0, *([1] if "--once" in command else ())), said
        assert "NOPERM" not in said
        assert "Traceback" not in said
    flower.stop()  # while its user lives
    assert list_refused(client) == set()
    assert events.said().count("Redis does not say") == 1


def start_command(workers: Workers, command: str, redis_url: str) -> subprocess.Popen[str]:
    """Start `analytics COMMAND` with this Redis."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *command.split()],
        env=workers.environment | {"ANALYTICS_REDIS_URL": redis_url},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
