"""The sentence of the Pipeline page in each outage of the kill campaign, one after the other: real
servers and processes, and a viewer who reads the page all along."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline import track_event
from pipeline.access.key_store import AccessKeyStore
from pipeline.contract import ARCHIVE_EVENTS
from pipeline.embedded import PrivateServers, Server
from pipeline.services import Services
from pipeline.upkeep.condition import findings
from pipeline.upkeep.dead_letter_groups import drop_group, list_groups
from pipeline.web.pipeline_status import StatusReader
from tests.conftest import MakeServices
from tests.helpers.api_server import NO_TLS
from tests.helpers.support import QUEUE, Worker, Workers, count_events, event, eventually
from tests.helpers.web_process import WebProcess

PAGE = "/dashboard/pipeline"
WELL = "All events are accounted for."
LOG_ENTRIES = 50
SETTINGS = {"FLUSH_INTERVAL_S": "1", "EVENT_LOG_MAX_ENTRIES": f"{LOG_ENTRIES}"}
_SOON_S = 15
_FINDERS = (
    "_find_losses",
    "_find_what_went_back",
    "_find_refusals",
    "_find_outages",
    "_find_absent_workers",
    "_find_silent_workers",
    "_find_silent_beat",
    "_find_lateness",
    "_find_dead_letters",
    "_find_doubts",
)


@dataclass
class Viewer:
    """Reads the page. `recorded` has the status of each outage that Redis was there for, with how
    its sentence has to begin."""

    browser: httpx.Client
    reader: StatusReader
    recorded: list[tuple[dict[str, Any], str]] = field(default_factory=list)

    def read(self) -> str:
        """The page as it is now, with its tags."""
        answer = self.browser.get(PAGE)
        assert answer.status_code in (200, 503), answer.text
        return unescape(answer.text).replace("<code>", "`").replace("</code>", "`")

    def expect(self, sentence: str, remedy: str, *, at_once: bool = False, times: int = 3) -> None:
        """The page says within seconds what is wrong and what to do, and goes on to say so."""
        if not at_once:
            eventually(lambda: says(self.read()).startswith(sentence), _SOON_S, sentence)
        for _ in range(times):
            page = self.read()
            assert says(page).startswith(sentence)
            assert remedy in page
            assert WELL not in page
        if not sentence.startswith("Redis does not answer"):
            self.recorded.append((dict(self.reader.read().status), sentence))

    def expect_well(self) -> None:
        """It is over, and the page says so."""
        eventually(lambda: says(self.read()) == WELL, _SOON_S, f"not well: {says(self.read())}")


def says(page: str) -> str:
    """The sentence of a page."""
    return " ".join(page.partition('<p class="sentence">')[2].partition("</p>")[0].split())


@dataclass
class Stage:
    """All that runs, and what is done to it."""

    services: Services
    servers: PrivateServers
    workers: Workers
    web: WebProcess
    viewer: Viewer
    token: str

    def sign_in(self, browser: httpx.Client) -> None:
        """Send the form as a browser does."""
        form, headers = {"token": self.token}, {"Origin": self.web.origin}
        answer = browser.post("/dashboard/sign-in", data=form, headers=headers)
        assert answer.status_code == 303, answer.text

    def start(self, kind: str) -> Worker:
        """Start an "events" or "flush" worker, or "beat", without waiting for it."""
        if kind == "beat":
            return self.workers.celery("beat", "beat", "--pidfile=", **SETTINGS)
        return self.workers.start(kind, ready=False, **SETTINGS)

    def pass_time(self, kind: str, seconds: int) -> None:
        """Let workers of a kind be silent for so much longer."""
        keys, client = self.services.keys, self.services.redis
        for name in client.zrange(keys.workers, 0, -1):
            if name.startswith(f"{kind}:".encode()):
                client.zincrby(keys.workers, -seconds, name)

    def shift(self, key: str, name: str, number: int) -> None:
        """Change a number of a hash."""
        self.services.redis.hincrby(key, name, number)


@pytest.fixture
def stage(
    own_servers: PrivateServers, make_services: MakeServices, workers: Workers, sending: None
) -> Iterator[Stage]:
    """Everything runs, and all is well."""
    services = make_services(flush_interval_s=1, event_log_max_entries=LOG_ENTRIES)
    web = WebProcess(workers)
    with httpx.Client(base_url=web.origin, timeout=30) as browser:
        viewer = Viewer(browser, StatusReader(services))
        _, token = AccessKeyStore(services.redis, services.keys).create("read", "viewer")
        built = Stage(services, own_servers, workers, web, viewer, token)
        web.start(**SETTINGS)
        built.sign_in(browser)
        viewer.expect("No event worker was seen for 45 s: what comes will wait.", "worker events")
        yield built


def strike_workers(stage: Stage) -> None:
    viewer = stage.viewer
    worker, flusher, beat = (stage.start(kind) for kind in ("events", "flush", "beat"))
    viewer.expect_well()

    os.killpg(worker.process.pid, signal.SIGSTOP)
    track_event.delay("page_view")
    stage.pass_time("events", 20)
    viewer.expect("The event worker was last seen 2", "see what its log says")
    os.killpg(worker.process.pid, signal.SIGCONT)
    viewer.expect_well()

    worker.kill()
    track_event.delay("page_view")
    stage.pass_time("events", 65)
    viewer.expect("No event worker was seen for 45 s: 1 message waits", "`analytics worker events`")
    taken = stage.services.redis.rpop(QUEUE)
    viewer.expect("1 message is missing: published", "another program takes messages")
    stage.services.redis.rpush(QUEUE, taken)
    flusher.kill()
    stage.pass_time("flush", 65)
    viewer.expect("No event worker was seen", "No flush worker was seen for 45 s")  # all away
    stage.start("events")
    viewer.expect("No flush worker was seen for 45 s: ", "`analytics worker flush`")
    stage.start("flush")
    viewer.expect_well()
    beat.kill()
    strike_beat(stage)


def strike_beat(stage: Stage) -> None:
    """Beat is away: the flush worker asks for what is overdue in its stead."""
    services, viewer = stage.services, stage.viewer
    stage.shift(services.keys.requests, "beat:ticked_ms", -65_000)
    viewer.expect("No beat was seen for 45 s: flush workers ask", "`analytics beat`")
    count_events(services, event())
    eventually(lambda: services.claims.pending() == 0, _SOON_S)
    stage.start("beat")
    viewer.expect_well()


def strike_redis(stage: Stage) -> None:
    viewer, redis = stage.viewer, stage.servers.redis
    client = stage.services.redis
    assert redis is not None
    for outage in (killed, stopped):
        with outage(redis):
            remedy = "What it has acknowledged it has kept."
            viewer.expect("Redis does not answer: nothing is taken", remedy, at_once=True, times=1)
        viewer.expect_well()

    client.config_set("maxmemory", 1)
    viewer.expect("Redis is full: new events are refused", "raise its maxmemory", at_once=True)
    with httpx.Client(base_url=stage.web.origin, timeout=30, verify=NO_TLS) as other:
        stage.sign_in(other)
        assert says(other.get(PAGE).text).startswith("Redis is full: ")
    client.config_set("maxmemory", 0)
    viewer.expect_well()

    client.config_set("appendonly", "no")
    viewer.expect("It is not certain that Redis keeps", "set appendonly yes", at_once=True)
    client.config_set("appendonly", "yes")
    viewer.expect_well()


def strike_postgres(stage: Stage) -> None:
    viewer, postgres = stage.viewer, stage.servers.postgres
    assert postgres is not None
    sentence = "Postgres does not answer: events are counted, and nothing is stored"
    with killed(postgres):
        viewer.expect(sentence, "the next flush stores them", at_once=True)
        stage.web.kill()
        stage.web.start(**SETTINGS)
        viewer.expect(sentence, "the next flush stores them", at_once=True)
    viewer.expect_well()
    with stopped(postgres):
        viewer.expect(sentence, "the next flush stores them", at_once=True, times=1)
    viewer.expect_well()


def strike_accounts(stage: Stage) -> None:
    """What comes cannot be counted, or Redis is put back to an older state."""
    services, viewer = stage.services, stage.viewer
    services.redis.lpush(QUEUE, "no message")
    viewer.expect("1 dead letter waits: ", "Replay or drop them")
    services.move_dead_letters()
    [group] = list_groups(services.engine, 10)
    assert drop_group(services.engine, group.id, group.last_at) == 1
    viewer.expect_well()

    claims = int(services.redis.hget(services.keys.totals, "claims") or 0)
    services.redis.hset(services.keys.totals, "claims", 0)
    viewer.expect("Redis is older than what Postgres has stored", "`analytics accept-redis-state`")
    services.redis.hset(services.keys.totals, "claims", claims)
    viewer.expect_well()


def strike_event_log(stage: Stage) -> None:
    """The archive is late, and the log full."""
    services, viewer = stage.services, stage.viewer
    stream = services.event_log.streams[0]
    services.archive_events()
    count_events(services, event())
    [(_, fields)] = services.redis.xrange(stream)
    services.redis.delete(stream)
    long_ago_ms = int((datetime.now(UTC) - timedelta(seconds=600)).timestamp() * 1000)
    services.redis.xadd(stream, fields, id=f"{long_ago_ms}-1")
    asked_ms = f"{ARCHIVE_EVENTS}:asked_ms"
    services.redis.hset(services.keys.requests, asked_ms, int(time.time() * 1000))
    viewer.expect("Archive is 60", "Postgres is fast enough")
    services.redis.hset(services.keys.requests, asked_ms, long_ago_ms)
    viewer.expect("Archive has not been asked for, and is 60", "`analytics beat`")
    services.archive_events()
    viewer.expect_well()

    for _ in range(LOG_ENTRIES + 5):
        count_events(services, event())
    viewer.expect("Event log is 100% full", "raise ANALYTICS_EVENT_LOG_MAX_BYTES")
    services.archive_events()
    viewer.expect_well()


@contextmanager
def killed(server: Server) -> Iterator[None]:
    """It is killed, and started again afterwards."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """It stands still, with all its processes."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    pids = [server.pid, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_the_sentence_is_right_in_each_outage(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike_workers(stage)
    strike_redis(stage)
    strike_postgres(stage)
    strike_accounts(stage)
    strike_event_log(stage)
    # What was recorded shows each wrong verdict: one that leaves a kind of finding out.
    recorded = stage.viewer.recorded
    assert wrong_sentences(recorded) == []
    for finder in _FINDERS:
        with monkeypatch.context() as patch:
            patch.setattr(findings, finder, lambda _: iter(()))
            assert wrong_sentences(recorded), f"no outage shows that {finder} is missing"


def wrong_sentences(recorded: list[tuple[dict[str, Any], str]]) -> list[str]:
    """What the verdict says of recorded outages that it should not."""
    said = [(findings.summarise(findings.find_faults(one)), begin) for one, begin in recorded]
    return [sentence for sentence, begin in said if not sentence.startswith(begin)]
